"""Tables of mIoU made from records: cells, captions, intervals, and the layouts of the DDC-AT paper."""
