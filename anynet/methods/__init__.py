"""Methods of research, each with its equation, its source and a check against it: one file a topic.

>>> import anynet as an
>>> an.methods.prototypes(an.asarray([[0.0], [2.0], [5.0]]), an.asarray([0, 0, 1])).tolist()
[[1.0], [5.0]]

A topic is imported when one of its names is first asked for.
"""

from typing import TYPE_CHECKING

from anynet._lazy import lazily as _lazily

# the names of each topic (a file of this folder), and the same file for type checkers below
_TOPICS: dict[str, tuple[str, ...]] = {
    "few_shot": ("EpisodeSampler", "prototypes", "prototypical_logits", "prototypical_loss"),
    "maml": ("DifferentiableOptimizer", "adapt", "maml_loss"),
    "bayesian_regression": ("BayesianLinearRegression",),
    "ensembles": ("DeepEnsemble", "SWAG"),
    "laplace": ("Laplace",),
    "likelihood": (
        "CategoricalHead",
        "Estimate",
        "GaussianHead",
        "LaplaceHead",
        "MixtureDensityHead",
        "PoissonHead",
        "aic",
        "bic",
        "fisher_information",
        "maximum_likelihood",
        "negative_log_likelihood",
        "standard_errors",
    ),
    "predictions": (
        "Classification",
        "Regression",
        "classification",
        "mc_dropout",
        "mc_predict",
        "regression",
    ),
    "variational": (
        "BayesConv2d",
        "BayesLinear",
        "ELBOLoss",
        "elbo",
        "kl_to_prior",
        "mean_weights",
        "to_bayesian",
    ),
    "capsules": (
        "CapsNet",
        "CapsuleLayer",
        "CapsuleRouting",
        "PrimaryCapsules",
        "capsule_lengths",
        "margin_loss",
        "squash",
    ),
    "convex": (
        "Certificate",
        "ConvexTwoLayer",
        "GatedReLU",
        "activation_patterns",
        "certificate",
        "convex_two_layer",
    ),
    "curvature": (
        "Eigenvalues",
        "hessian_eigenvalues",
        "hessian_learning_rates",
        "hessian_vector_product",
        "layer_wise_learning_rates",
    ),
    "deep_stacking": ("DeepStackingNetwork",),
    "distillation": ("DistillationLoss", "distillation_loss"),
    "random_features": ("Width", "double_descent"),
    "feature_learning": ("Ansatz", "RecursiveFeatureMachine", "agop", "neural_feature_ansatz"),
    "implicit_regularization": (
        "DeepMatrixFactorization",
        "MaximumMargin",
        "effective_rank",
        "max_margin",
        "minimum_norm_distance",
        "minimum_norm_solution",
        "normalized_margin",
    ),
    "least_squares": ("NonNegative", "least_distance", "nnls"),
    "per_sample": ("jacobians", "per_sample_gradients"),
    "diffusion": (
        "DDPM",
        "DenoisingUNet",
        "cosine_schedule",
        "frechet_distance",
        "linear_schedule",
        "time_embedding",
    ),
    "flows": ("ActNorm", "AffineCoupling", "RealNVP", "dequantize", "logit_transform"),
    "fuzzy": ("FormulaLayer", "FuzzyLogic", "LogicLayer", "addition_loss", "log_sum_distribution"),
    "propositional": ("Circuit", "Formula", "SemanticLoss", "exactly_one_loss", "semantic_loss"),
    "siamese": (
        "Verification",
        "batch_hard_triplet_loss",
        "contrastive_loss",
        "pairwise_distances",
        "verification",
    ),
    "reinforcement": (
        "DQN",
        "CartPole",
        "Environment",
        "MaximizationBias",
        "ReplayBuffer",
        "Transitions",
        "evaluate_policy",
        "q_learning",
        "td_targets",
        "train_dqn",
    ),
    "self_supervised": (
        "BYOL",
        "MaskedAutoencoder",
        "Probe",
        "TwoViews",
        "byol_loss",
        "linear_probe",
        "nt_xent_loss",
        "patchify",
        "projector",
        "random_masking",
        "unpatchify",
        "vicreg_loss",
    ),
    "time_warping": ("DTWNeighbors", "SoftDTWLoss", "dtw", "dtw_distances", "soft_dtw"),
}
_LATER = {name: f"anynet.methods.{topic}:{name}" for topic, names in _TOPICS.items() for name in names}

if TYPE_CHECKING:
    from anynet.methods.bayesian_regression import *
    from anynet.methods.capsules import *
    from anynet.methods.convex import *
    from anynet.methods.curvature import *
    from anynet.methods.deep_stacking import *
    from anynet.methods.diffusion import *
    from anynet.methods.distillation import *
    from anynet.methods.ensembles import *
    from anynet.methods.feature_learning import *
    from anynet.methods.few_shot import *
    from anynet.methods.flows import *
    from anynet.methods.fuzzy import *
    from anynet.methods.implicit_regularization import *
    from anynet.methods.laplace import *
    from anynet.methods.least_squares import *
    from anynet.methods.likelihood import *
    from anynet.methods.maml import *
    from anynet.methods.per_sample import *
    from anynet.methods.predictions import *
    from anynet.methods.propositional import *
    from anynet.methods.random_features import *
    from anynet.methods.reinforcement import *
    from anynet.methods.self_supervised import *
    from anynet.methods.siamese import *
    from anynet.methods.time_warping import *
    from anynet.methods.variational import *
else:  # a type checker is to find a name that is not there
    __all__ = sorted(_LATER)
    __getattr__, __dir__ = _lazily("anynet.methods", _LATER)

del TYPE_CHECKING
