"""What there is to see: one read model, of which pages and numbers are renderings."""
