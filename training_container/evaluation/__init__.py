"""What a model is worth on the held-out rows: loss, answers and choices, each compared with the base model's."""
