"""The contents of a run directory.

Synopsis:

    from aelab.runs.directory import RunDirectory
    from aelab.runs.trained_model import load_trained

    trained = load_trained(RunDirectory("runs/quickstart"), "best")
    print(trained.step, trained.autoencoder.model(images))  # float32 [n, H, W, C]
"""
