"""Applications: they use the core, which never imports them."""
