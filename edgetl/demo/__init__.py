"""The demo: data that needs no network, and the whole chain on it; see `edgetl.demo.job`."""
