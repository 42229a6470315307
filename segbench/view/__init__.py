"""Looking at stores in a browser: a local page that fills while runs go on. Needs no torch."""
