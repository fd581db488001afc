"""The Optuna dashboard of a search: notes, artifacts and figures of our own beside its panels."""
