# Rust half of featureplane; `featureplane.native` is the only module that imports it.

__version__: str
