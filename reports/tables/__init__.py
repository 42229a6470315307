"""Records laid out as tables: cells, captions, intervals, and the layouts of the founding paper."""
