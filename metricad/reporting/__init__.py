"""Reports of evaluations and datasheets of inspectors, as tables, figures, Markdown and web pages."""
