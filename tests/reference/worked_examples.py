"""Exercises with every number written out, to be met exactly.

Matrices are as on paper: examples are columns, weights multiply from the left. The package has rows, so a test transposes.
"""

from dataclasses import dataclass

# Tom Yeh's "Autoencoder by hand" (ImagineAILab/ai-by-hand-excel, MIT, small tab of Autoencoder.xlsx): four layers, ReLU after
# each. The sheet's "loss gradients" cells compute 2 X / 2; the article and this test have 2 (Y - X).
AUTOENCODER_X = [[2, -1], [-1, 0], [2, 1], [1, 2]]
AUTOENCODER_LAYERS = [
    ([[1, 0, -1, 1], [0, 1, 1, 0], [1, -1, 0, 0]], [1, 1, 0]),
    ([[0, 1, 2], [-1, 0, -3]], [1, 10]),
    ([[1, 1], [-1, 1], [1, 0]], [-2, 1, 1]),
    ([[0, -1, 0], [-1, 2, 0], [1, -1, 1], [-1, 0, 1]], [2, 3, 2, 5]),
]
AUTOENCODER_ACTIVATIONS = [
    [[2, 1], [2, 2], [3, 0]],
    [[9, 3], [0, 9]],
    [[7, 10], [0, 7], [10, 4]],
    [[2, 0], [0, 7], [19, 9], [8, 0]],
]
AUTOENCODER_SQUARED_ERROR = 457
AUTOENCODER_MEAN_SQUARED_ERROR = 57.125
AUTOENCODER_GRADIENT = [[0, 2], [2, 14], [34, 16], [14, -4]]  # by Y, of the summed squared error


@dataclass(frozen=True)
class SAEExercise:
    """One sparse autoencoder without an input bias, with loss = summed squared error + sum of f_i ||d_i||."""

    X: list
    W_e: list
    b_e: list
    W_d: list
    b_d: list
    pre_acts: list
    decoder_norms: list
    recon: list
    l1: float
    weighted_l1: float
    l0: float
    squared_error: float
    fvu: tuple  # numerator, denominator
    # As the exercise writes the sparsity step: the direction of the UPDATE, -||d_i|| where a latent is active. The derivative
    # of the loss has the opposite sign.
    sparsity_update: list
    recon_gradient: list
    by_b_e: list
    by_W_e: list
    by_b_d: list
    by_W_d: list


# Our own numbers with the properties of Tom Yeh's "Sparse Autoencoder by hand" (3 x 5 input, 6 latents of which one never fires
# and one fires on the second and third example only). His own matrices exist as images alone: whoever reads them off adds
# another `SAEExercise` to the list and has it tested.
SAE_EXERCISES = [
    SAEExercise(
        X=[[2, 2, 0, 1, -2], [-1, 3, 4, -2, 0], [0, 5, 3, 2, 0]],
        W_e=[[-1, 1, -1], [1, 0, -1], [-1, 0, -1], [0, -1, -1], [0, -1, 1], [0, 1, 0]],
        b_e=[-3, -1, 1, 1, -3, -2],
        W_d=[[3, 2, 0, 1, 0, 2], [4, 1, 1, -2, 3, -2], [0, 2, 0, 2, -4, 1]],
        b_d=[1, 0, -1],
        pre_acts=[
            [-6, -7, -2, -8, -1],
            [1, -4, -4, -2, -3],
            [-1, -6, -2, -2, 3],
            [2, -7, -6, 1, 1],
            [-2, -1, -4, 1, -3],
            [-3, 1, 2, -4, -2],
        ],
        decoder_norms=[5, 3, 1, 3, 5, 3],
        recon=[[5, 3, 5, 2, 2], [-3, -2, -4, 1, 1], [5, 0, 1, -3, 1]],
        l1=12,
        weighted_l1=32,
        l0=1.6,
        squared_error=235,
        fvu=(235, 56),
        sparsity_update=[
            [0, 0, 0, 0, 0],
            [-3, 0, 0, 0, 0],
            [0, 0, 0, 0, -1],
            [-3, 0, 0, -3, -3],
            [0, 0, 0, -5, 0],
            [0, -3, -3, 0, 0],
        ],
        recon_gradient=[[6, 2, 10, 2, 8], [-4, -10, -16, 6, 2], [10, -10, -4, -10, 2]],
        by_b_e=[0, 31, 3, 21, 63, 68],
        by_W_e=[[0, 0, 0], [62, -31, 0], [-6, 0, 0], [25, 17, -54], [63, -126, 126], [34, 255, 238]],
        by_b_d=[28, -22, -12],
        by_W_d=[
            [0, 20 / 3, 24, 70 / 3, 2, 24],
            [0, -11 / 3, 9, -8 / 3, 6.6, -44],
            [0, 32 / 3, 6, 44 / 3, -10.8, -17],
        ],
    )
]
