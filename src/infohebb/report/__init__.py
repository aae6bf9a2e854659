"""Floor 5: tables, figures and one HTML page from records; touches no tensor."""
