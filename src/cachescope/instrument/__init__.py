"""Ways in: instrument(), @profiled_cache, auto-patching and the start-up bootstrap."""

from cachescope.instrument.objects import instrument, uninstrument

__all__ = ["instrument", "uninstrument"]
