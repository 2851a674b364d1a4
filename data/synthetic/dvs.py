"""An event camera: a pixel fires each time its log intensity has moved by its threshold."""

from __future__ import annotations

import numpy as np

from ..events.dat import Events

_DARK = 1e-3  # added to the intensity before the logarithm


class DvsSimulator:
    """Turns frames into events.

    A pixel remembers the log intensity of its last event. When the current one differs by its threshold C (normal
    around `threshold` with deviation `sigma`), it fires, ON or OFF, and the memory moves by C; several crossings in a
    step are several events. Crossing times are linear between two frames. A pixel is silent for `refractory_us` after
    an event: crossings in that time move the memory, but are lost. Noise events come at `noise_hz` per pixel.
    """

    def __init__(
        self,
        intensity: np.ndarray,
        rng: np.random.Generator,
        threshold: float = 0.2,
        sigma: float = 0.03,
        refractory_us: int = 500,
        noise_hz: float = 0.2,
    ):
        """`intensity`: float [H, W] in 0..1, what the camera sees at 0 us."""
        self.height, self.width = intensity.shape
        self.rng, self.refractory_us, self.noise_hz = rng, refractory_us, noise_hz
        pixels = intensity.size
        self.threshold = np.maximum(rng.normal(threshold, sigma, pixels), threshold / 4).astype(np.float32)
        self._log = self._log_intensity(intensity)
        # Pixels do not start in step: each is somewhere between its two thresholds.
        self._memory = self._log + self.threshold * rng.uniform(-0.9, 0.9, pixels).astype(np.float32)
        self._last_us = np.full(pixels, -refractory_us, np.int64)  # of each pixel's last event
        self._now_us = 0

    def step(self, intensity: np.ndarray, t_us: int) -> Events:
        """Events in (time of the last step, t_us], sorted by time, while the picture changes to `intensity`."""
        start, span = self._now_us, t_us - self._now_us
        if span <= 0:
            raise ValueError(f"the clock must advance: {t_us} us follows {start} us")
        log = self._log_intensity(intensity)
        change = log - self._memory
        crossings = (np.abs(change) / self.threshold).astype(np.int32)
        pixel = np.flatnonzero(crossings)
        crossings, up = crossings[pixel], change[pixel] > 0
        stride = np.where(up, self.threshold[pixel], -self.threshold[pixel])
        # Crossing k is at `share` = lead + k * pace of the step. A pixel that did not change has only a rounding left.
        slope = (log - self._log)[pixel]
        slope[slope == 0] = np.inf
        lead, pace = (self._memory - self._log)[pixel] / slope, stride / slope
        found = []
        for k in range(1, crossings.max(initial=0) + 1):
            live = np.flatnonzero(crossings >= k)
            share = np.clip(lead[live] + k * pace[live], 0, 1)
            t = start + np.maximum(np.ceil(share * span), 1).astype(np.int64)
            found.append(self._fire(pixel[live], t, up[live]))
        self._memory[pixel] += crossings * stride
        self._log, self._now_us = log, t_us

        count = self.rng.poisson(self.noise_hz * len(log) * span * 1e-6)
        noisy = np.unique(self.rng.integers(0, len(log), count))
        when = self.rng.integers(start + 1, t_us + 1, len(noisy))
        found.append(self._fire(noisy, when, self.rng.random(len(noisy)) < 0.5))

        t, pixel, p = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.argsort(t, kind="stable")
        y, x = np.divmod(pixel[order], self.width)
        return Events(t[order], x.astype(np.uint16), y.astype(np.uint16), p[order].astype(np.uint8))

    def _fire(self, pixel: np.ndarray, t: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(t, pixel, up) of those of at most one candidate per pixel that are not in the dead time."""
        ready = t - self._last_us[pixel] >= self.refractory_us
        t, pixel, up = t[ready], pixel[ready], up[ready]
        self._last_us[pixel] = t
        return t, pixel, up

    @staticmethod
    def _log_intensity(intensity: np.ndarray) -> np.ndarray:
        return np.log(intensity.reshape(-1).astype(np.float32) + np.float32(_DARK))
