"""`fedhq study validity`: which data must do QAT? Loss models, judged on settings left out."""
