"""The search for architectures and trainings: points are asked of Optuna, trained one by one, told, and compared."""
