"""cliplit: a reproducibility kit for CLIP-LIT (ICCV 2023). Importing it loads no weights and touches no device."""

__version__ = "0.1.0"
