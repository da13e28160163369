"""Model families, one module each: configuration, table of foreign names, and what is special."""
