"""The parts of the conformance suite, by subject; :mod:`cachescope.testing.conformance` joins them."""
