"""The dashboard: pages without a build step, that read the admin's JSON over HTTP."""
