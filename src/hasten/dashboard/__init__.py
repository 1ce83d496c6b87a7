"""The dashboard: pages in one file each, without a build step, that read the admin's JSON over HTTP."""
