"""Call the method that a spec names: as a job of its own, or as a step of a chain."""

from app.domain.optimize_specs import (
    Chain,
    Cluster,
    Convolve,
    Distill,
    Factorize,
    FineTune,
    Prune,
    Quantize,
    ShareWeights,
)
from app.domain.specs import OptimizeSpec
from worker.assignment import Assignment
from worker.context import Context
from worker.optimize.chain import run_chain
from worker.optimize.cluster import cluster_parent
from worker.optimize.convolve import convolve_parent
from worker.optimize.distill import distill
from worker.optimize.factorize import factorize_parent
from worker.optimize.fine_tune import fine_tune
from worker.optimize.prune import prune
from worker.optimize.quantize import quantize
from worker.optimize.share_weights import share_weights
from worker.package import Product
from worker.rows import Data


def optimize_with(spec: OptimizeSpec, assignment: Assignment, context: Context, data: Data) -> Product:
    """Do what an optimization asks for; the method raises MethodNotApplicableError when it cannot be done."""
    match spec.method:
        case ShareWeights() as method:
            return share_weights(spec, method, assignment, context, data)
        case Convolve() as method:
            return convolve_parent(spec, method, assignment, context, data)
        case Distill() as method:
            return distill(spec, method, assignment, context, data)
        case Prune() as method:
            return prune(spec, method, assignment, context, data)
        case Factorize() as method:
            return factorize_parent(spec, method, assignment, context, data)
        case Cluster() as method:
            return cluster_parent(spec, method, assignment, context, data)
        case Quantize() as method:
            return quantize(spec, method, assignment, context, data)
        case FineTune() as method:
            return fine_tune(spec, method, assignment, context, data)
        case Chain() as method:
            return run_chain(spec, method, assignment, context, data, optimize=optimize_with)
