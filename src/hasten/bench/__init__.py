"""The load generator behind ``hasten bench``.

``arrivals`` (when requests are due), ``record`` (one request and its metrics), ``stats`` (quantiles, the summary
of a run), ``slo`` (goodput) and ``paired`` (A against B) decide and compute without sockets or clocks.
``workload`` makes the bodies, ``target`` sends one request, ``load`` drives the closed and the open loop, ``run``
puts a whole benchmark together and ``report`` shows it.
"""
