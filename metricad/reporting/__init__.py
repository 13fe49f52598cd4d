"""Reports of evaluations and datasheets of inspectors: tables, figures, Markdown and web pages."""
