"""DAGM 2007: ten synthetic surfaces with marked defects, in either of its layouts, and its TFDS builder."""
