"""Jobs on machines: what a worker does, engines that run many, their output folders, provenance."""
