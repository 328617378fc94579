"""Questions + answers from any engine -> metrics."""
