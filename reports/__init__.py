"""Records and the tables, pages and files made from them; needs neither torch nor the other packages."""
