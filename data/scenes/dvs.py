"""Simulator of an event camera (`DvsSimulator`): a pixel fires when its log intensity changes by its threshold."""

from __future__ import annotations

import numpy as np

from registry import UserError

from ..recordings.interface import Events

_DARK = np.float32(1e-3)  # added to the intensity before the logarithm
_BLOCK = 1 << 15  # pixels processed at once, small enough for the CPU cache


class DvsSimulator:
    """Converts frames to events.

    Each pixel has a reference log intensity. When the current one differs from it by the threshold C of the pixel
    (normal with mean `threshold` and deviation `sigma`), the pixel fires ON or OFF, and the reference moves by C.
    Several crossings in a step give several events. Crossing times are interpolated linearly between two frames. During
    `refractory_us` after an event, crossings move the reference without giving events.

    Noise events of either polarity come at `noise_hz` per pixel. The reference leaks: without any change a pixel fires
    ON `leak_hz` times per second, and a share `hot_pixels` of all pixels `hot_pixel_hz` times.
    """

    def __init__(
        self,
        intensity: np.ndarray,
        rng: np.random.Generator,
        threshold: float = 0.2,
        sigma: float = 0.03,
        refractory_us: int = 500,
        noise_hz: float = 0.2,
        leak_hz: float = 0.0,
        hot_pixels: float = 0.0,
        hot_pixel_hz: float = 100.0,
    ):
        """intensity: float [H, W] in 0..1, the frame at 0 us."""
        self.height, self.width = intensity.shape
        self.rng, self.refractory_us, self.noise_hz = rng, refractory_us, noise_hz
        pixels = intensity.size
        self.threshold = np.maximum(rng.normal(threshold, sigma, pixels), threshold / 4).astype(np.float32)
        self._log, self._next = np.log(_flat(intensity) + _DARK), np.empty(pixels, np.float32)
        # Random initial references between the two thresholds, so that pixels are not synchronised.
        self._reference = self._log + self.threshold * rng.uniform(-0.9, 0.9, pixels).astype(np.float32)
        self._last_us = np.full(pixels, -refractory_us, np.int64)  # of each pixel's last event
        self._now_us = 0
        self._leak: np.ndarray | None = None  # log intensity per us
        if leak_hz > 0 or hot_pixels > 0:
            hz = np.full(pixels, leak_hz)
            # A separate random stream, so that hot pixels do not change the other events.
            hz[rng.spawn(1)[0].permutation(pixels)[: round(hot_pixels * pixels)]] = hot_pixel_hz
            self._leak = (hz * 1e-6 * self.threshold).astype(np.float32)

    def step(self, intensity: np.ndarray, t_us: int) -> Events:
        """Events in (time of the last step, t_us], sorted by time, while the image changes to `intensity`."""
        start, span = self._now_us, t_us - self._now_us
        if span <= 0:
            raise UserError(f"the clock must advance: {t_us} us follows {start} us")
        log = self._next
        pixel = self._beyond(_flat(intensity), span)
        change, threshold = log[pixel] - self._reference[pixel], self.threshold[pixel]
        crossings, up = (np.abs(change) / threshold).astype(np.int32), change > 0
        stride = np.where(up, threshold, -threshold)
        # Crossing k is at `share` = lead + k * pace of the step. Unchanged pixels differ by rounding only.
        before = self._log[pixel]
        slope = log[pixel] - before
        slope[slope == 0] = np.inf
        lead, pace = (self._reference[pixel] - before) / slope, stride / slope
        found = []
        for k in range(1, crossings.max(initial=0) + 1):
            live = np.flatnonzero(crossings >= k)
            share = np.clip(lead[live] + k * pace[live], 0, 1)
            t = start + np.maximum(np.ceil(share * span), 1).astype(np.int64)
            found.append(self._fire(pixel[live], t, up[live]))
        self._reference[pixel] += crossings * stride
        if self._leak is not None:
            drift = self._leak * np.float32(span)
            self._reference -= drift
            log -= drift
        self._log, self._next, self._now_us = log, self._log, t_us

        count = self.rng.poisson(self.noise_hz * len(log) * span * 1e-6)
        noisy = np.unique(self.rng.integers(0, len(log), count))
        when = self.rng.integers(start + 1, t_us + 1, len(noisy))
        found.append(self._fire(noisy, when, self.rng.random(len(noisy)) < 0.5))

        t, pixel, p = (np.concatenate(column) for column in zip(*found, strict=True))
        # numpy sorts 16-bit keys by radix sort, which is many times faster.
        order = np.argsort((t - start).astype(np.uint16 if span < 1 << 16 else np.int64), kind="stable")
        y, x = np.divmod(pixel[order], self.width)
        return Events(t[order], x.astype(np.uint16), y.astype(np.uint16), p[order].astype(np.uint8))

    def _beyond(self, intensity: np.ndarray, span: int) -> np.ndarray:
        """Fill `_next` with the log intensity including the leak; returns the pixels beyond their threshold."""
        found = []
        change = np.empty(_BLOCK, np.float32)
        for start in range(0, len(intensity), _BLOCK):
            part = slice(start, start + _BLOCK)
            log = np.add(intensity[part], _DARK, out=self._next[part])
            np.log(log, out=log)
            if self._leak is not None:
                log += self._leak[part] * np.float32(span)
            moved = np.subtract(log, self._reference[part], out=change[: len(log)])
            found.append(np.flatnonzero(np.abs(moved, out=moved) >= self.threshold[part]) + start)
        return np.concatenate(found)

    def _fire(self, pixel: np.ndarray, t: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(t, pixel, up) of the candidates, at most one per pixel, outside the refractory time."""
        ready = t - self._last_us[pixel] >= self.refractory_us
        t, pixel, up = t[ready], pixel[ready], up[ready]
        self._last_us[pixel] = t
        return t, pixel, up


def _flat(intensity: np.ndarray) -> np.ndarray:
    return np.asarray(intensity, np.float32).reshape(-1)
