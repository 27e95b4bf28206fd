"""From results to one page: tables, figures. May import: core, results."""
