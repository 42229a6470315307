"""segbench: robustness benchmarks for semantic segmentation."""
