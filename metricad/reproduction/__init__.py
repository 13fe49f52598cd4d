"""The paper's grid of experiments, run in parallel and gone on with after an interruption."""
