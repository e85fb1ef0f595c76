"""cachescope: an in-process cache memory profiler."""
