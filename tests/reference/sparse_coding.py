"""Twins of sparse coding, one row and one coordinate at a time, in numpy float64."""

import numpy as np


def objective(x, atoms, code, l1):
    """1/2 ||x - a D||^2 + l1 sum(a), with loops."""
    recon = np.zeros(len(x))
    for number, act in enumerate(code):
        recon = recon + act * atoms[number]
    return 0.5 * sum((x - recon) ** 2) + l1 * sum(code)


def coordinate_descent(x, atoms, l1, sweeps=3000):
    """The code of one row: each activation in turn to the best value given the others, until nothing moves."""
    code = np.zeros(len(atoms))
    residual = x.astype(np.float64).copy()
    for _ in range(sweeps):
        moved = 0.0
        for j, atom in enumerate(atoms):
            square = atom @ atom
            if square == 0:
                continue
            new = max(0.0, code[j] + (residual @ atom - l1) / square)
            residual = residual - (new - code[j]) * atom
            moved, code[j] = max(moved, abs(new - code[j])), new
        if moved < 1e-14:
            break
    return code


def dual_value(x, theta):
    """1/2 ||x||^2 - 1/2 ||x - theta||^2."""
    return 0.5 * (x @ x) - 0.5 * ((x - theta) @ (x - theta))


def gap(x, atoms, code, l1):
    """P(a) - dual at the best allowed multiple of the residual, that multiple found by trying many."""
    residual = x - code @ atoms
    most = max(atom @ residual for atom in atoms)
    limit = l1 / most if most > 0 else 1e6
    best = max(dual_value(x, scale * residual) for scale in np.linspace(0, min(limit, 3.0), 2_001))
    return objective(x, atoms, code, l1) - best


def fista(x, atoms, l1, iterations):
    """The loop as Yun et al. 2021 write it, with column vectors: Phi [d_in, d_sae]."""
    phi = atoms.T
    eta = 1 / np.linalg.eigvalsh(phi @ phi.T).max()
    a, y, t = np.zeros(len(atoms)), np.zeros(len(atoms)), 1.0
    for _ in range(iterations):
        r = x - phi @ y
        u = y + eta * phi.T @ r
        a_new = np.maximum(u - eta * l1, 0)
        t_new = (1 + np.sqrt(1 + 4 * t**2)) / 2
        y = a_new + (t - 1) / t_new * (a_new - a)
        a, t = a_new, t_new
    return a


def ista(x, atoms, l1, iterations):
    """Proximal gradient steps alone."""
    eta = 1 / np.linalg.eigvalsh(atoms @ atoms.T).max()
    a = np.zeros(len(atoms))
    for _ in range(iterations):
        a = np.maximum(a + eta * (atoms @ (x - a @ atoms) - l1), 0)
    return a


def statistics(codes, rows, weights=None):
    """Sums over rows of w a^T a and w a^T x."""
    weights = np.ones(len(rows)) if weights is None else weights
    second, cross = np.zeros((codes.shape[1], codes.shape[1])), np.zeros((codes.shape[1], rows.shape[1]))
    for code, row, weight in zip(codes, rows, weights, strict=True):
        second += weight * np.outer(code, code)
        cross += weight * np.outer(code, row)
    return second, cross


def block_coordinate_descent(atoms, second, cross, sweeps):
    """Mairal et al. 2009, algorithm 2, with atoms of norm 1."""
    atoms = atoms.copy()
    for _ in range(sweeps):
        for j in range(len(atoms)):
            if second[j, j] > 0:
                u = (cross[j] - second[j] @ atoms) / second[j, j] + atoms[j]
                atoms[j] = u / np.linalg.norm(u)
    return atoms


def diagonal_hessian_step(phi, hessian, residuals, codes, weights, *, rate, history, floor):
    """The step as Yun et al. 2021 write it, with column vectors: phi [d_in, d_sae]; returns phi and the Hessian."""
    hessian = hessian * (history - 1) / history + (codes**2).mean(axis=0) / history
    gradient = np.zeros_like(phi)
    for residual, code, weight in zip(residuals, codes, weights, strict=True):
        gradient += np.outer(residual * weight, code)
    phi = phi + rate * gradient / len(codes) / (hessian + floor)
    return phi / np.linalg.norm(phi, axis=0), hessian


def shortlist(x, atoms, l1, known, size):
    """Atoms of a known code, and of the others those that the rows near it want most: by votes, one of each row."""
    used = [j for j in range(len(atoms)) if known[j] > 0]
    wanted = {j: 0.0 for j in range(len(atoms)) if j not in used}
    for row in x:
        left = row - known @ atoms
        above = {j: max(0.0, left @ atoms[j] - l1) for j in range(len(atoms))}
        for j in wanted:
            wanted[j] += above[j] / sum(above.values()) if above[j] else 0.0
    best = sorted(wanted, key=lambda j: -wanted[j])
    return sorted(used + best[: max(0, size - len(used))])


def shortlist_codes(x, atoms, l1, known, size):
    """Codes of rows near one whose code is known, each over the shortlist alone."""
    chosen = shortlist(x, atoms, l1, known, size)
    codes = np.zeros((len(x), len(atoms)))
    for number, row in enumerate(x):
        codes[number, chosen] = coordinate_descent(row, atoms[chosen], l1)
    return codes
