"""Writes domain_reference.npz: what the package `adapt` computes on fixed small inputs.

Run it where `adapt` is (``pip install adapt tensorflow-cpu tf_keras``), apart from this project;
the tests read the file and need neither. The figures of the file are of adapt 0.4.5 with
tensorflow 2.21: CORAL, subspace alignment, the biased squared MMD with one Gaussian kernel (from
its module of importance weights), and the weights of DANN's networks after one step of plain
gradient descent.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np

FILE = Path(__file__).with_suffix(".npz")
RIDGE, AXES, GAMMA = 0.05, 3, 0.25
WEIGHT, RATE = 0.7, 0.1


def inputs():
    """Two small domains that differ in mean, scale and correlation."""
    generator = np.random.default_rng(17)
    mix = generator.normal(size=(5, 5))
    source = generator.normal(size=(40, 5)) * [2, 1, 1, 0.5, 0.2]
    target = generator.normal(size=(30, 5)) @ mix * 0.6 + [1, 0, -1, 0, 2]
    return source, generator.integers(0, 3, 40), target


def dann(source, codes, target):
    """DANN's weights before and after one step on all samples."""
    import tensorflow as tf
    from adapt.feature_based import DANN

    layers = tf.keras.layers
    encoder = tf.keras.Sequential([layers.Input((5,)), layers.Dense(5)])
    task = tf.keras.Sequential([layers.Input((5,)), layers.Dense(3, activation="softmax")])
    judge = tf.keras.Sequential(
        [layers.Input((5,)), layers.Dense(6, activation="relu"), layers.Dense(1, "sigmoid")]
    )
    generator = np.random.default_rng(23)
    for network in (encoder, task, judge):
        network.set_weights([generator.normal(size=w.shape) * 0.5 for w in network.get_weights()])
    before = [w.copy() for n in (encoder, task, judge) for w in n.get_weights()]
    model = DANN(
        encoder,
        task,
        judge,
        Xt=target.astype(np.float32),
        lambda_=WEIGHT,
        loss="categorical_crossentropy",
        optimizer=tf.keras.optimizers.SGD(RATE),
        optimizer_enc=tf.keras.optimizers.SGD(RATE),
        optimizer_disc=tf.keras.optimizers.SGD(RATE),
        copy=False,
        verbose=0,
        random_state=0,
    )
    # One batch holds all samples of both domains: its order changes nothing.
    model.fit(
        source.astype(np.float32), np.eye(3, dtype=np.float32)[codes], epochs=1, batch_size=30
    )
    networks = (model.encoder_, model.task_, model.discriminator_)
    return before, [w for n in networks for w in n.get_weights()]


def main():
    """Compute everything and write the file."""
    import tensorflow as tf
    from adapt.feature_based import CORAL, SA
    from adapt.instance_based._iwn import weighted_mmd

    source, codes, target = inputs()
    aligned = SA(n_components=AXES, verbose=0)
    found = {
        "source": source,
        "codes": codes,
        "target": target,
        "coral": CORAL(lambda_=RIDGE, verbose=0).fit_transform(source, target),
        "subspace_source": aligned.fit_transform(source, target),
        "subspace_target": aligned.transform(target),
        "mmd": float(
            weighted_mmd(tf.constant(source), tf.constant(target), tf.ones(40, tf.float64), GAMMA)
        ),
    }
    # As many samples of either domain, so that no batch is filled up with repeated ones.
    before, after = dann(source[:30], codes[:30], target)
    names = ("encoder_w", "encoder_b", "task_w", "task_b", "judge_w", "judge_b", "out_w", "out_b")
    for name, old, new in zip(names, before, after, strict=True):
        found[f"before_{name}"], found[f"after_{name}"] = old, new
    np.savez_compressed(FILE, **found)
    sys.stdout.write(f"{FILE.name}: {FILE.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
