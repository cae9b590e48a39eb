"""Tests of the recipe: models/.build/venv/bin/python -B -m unittest discover -s models

They need neither the packages of weights.txt nor the network."""

import hashlib
import io
import os
import pickle
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
from onnx import TensorProto, helper

from recipe import affine_map, card, detectors, facenet, sources, torch_weights
from recipe.onnx_graph import Graph, fix_shapes
from recipe.quantize import quantize_channels, quantize_weights
from recipe.runtime import session


class Pickles(unittest.TestCase):
    def test_pickle_that_calls_something_is_refused(self):
        class Call:
            def __reduce__(self):
                return os.getcwd, ()

        data = pickle.dumps(torch_weights.MAGIC, 2) + pickle.dumps(torch_weights.PROTOCOL, 2) + pickle.dumps(Call(), 2)
        with self.assertRaises(torch_weights.RefusedPickle):
            torch_weights.read_weights(data)

    def test_tensor_beyond_its_storage_is_refused(self):
        read = torch_weights._tensor("0", 2, (2, 2), (2, 1))
        with self.assertRaises(torch_weights.RefusedPickle):
            read({"0": np.zeros(5, np.float32)})

    def test_tensor_follows_its_strides(self):
        read = torch_weights._tensor("0", 1, (2, 3), (1, 2))
        values = np.arange(8, dtype=np.float32)
        self.assertEqual(read({"0": values}).tolist(), [[1, 3, 5], [2, 4, 6]])


class Center(unittest.TestCase):
    def test_center_is_as_long_as_an_embedding_and_is_no_face(self):
        center = np.loadtxt(Path(__file__).parent / "calibration" / "center.txt")
        self.assertEqual(center.shape, (facenet.DIMENSIONS,))
        # The mean of unit vectors that agreed would be nearly 1 long: so short it is nobody's.
        self.assertLess(np.linalg.norm(center), 0.4)

    def test_center_of_another_length_is_refused(self):
        with self.assertRaises(ValueError):
            facenet.convert(b"", np.zeros(128))


class Mapping(unittest.TestCase):
    def test_fit_finds_the_turn_and_the_centre_between_two_spaces(self):
        random = np.random.default_rng(1)
        source = unit(random.normal(size=(400, 8)))
        turn, centre = np.linalg.qr(random.normal(size=(8, 8)))[0], 0.2 * random.normal(size=8)
        matrix, offset = affine_map.fit(source, source @ turn.T - centre, 1e-9)
        mapped = affine_map.apply(source, matrix, offset)
        self.assertGreater((mapped * unit(source @ turn.T - centre)).sum(1).min(), 0.99999)

    def test_ridge_holds_a_fit_of_few_looks_small(self):
        random = np.random.default_rng(1)
        source, target = (unit(random.normal(size=(34, 32))) for _ in range(2))
        wild, tame = (np.abs(affine_map.fit(source, target, ridge)[0]).max() for ridge in (1e-12, 1.0))
        self.assertLess(tame, wild / 2)

    def test_file_is_the_matrix_row_by_row_and_then_the_offset(self):
        data = affine_map.encode(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([7.0, 8.0, 9.0]))
        self.assertEqual(np.frombuffer(data, "<f4").tolist(), [1, 2, 3, 4, 5, 6, 7, 8, 9])
        matrix, offset = affine_map.decode(data, 2)
        self.assertEqual((matrix.tolist(), offset.tolist()), ([[1, 2], [3, 4], [5, 6]], [7, 8, 9]))
        with self.assertRaises(ValueError):
            affine_map.encode(np.eye(3), np.zeros(2))


def unit(looks):
    return looks / np.linalg.norm(looks, axis=1, keepdims=True)


class Sources(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        environment = mock.patch.dict(os.environ, REGISTRIES_ONLY="")
        environment.start()
        self.addCleanup(environment.stop)
        self.source = sources.Hosted("a/b", "0" * 40, "x/file.bin", hashlib.sha256(b"good").hexdigest())

    def test_swapped_file_in_the_cache_is_refused(self):
        (self.folder / "file.bin").write_bytes(b"evil")
        with mock.patch.dict(os.environ, MODEL_CACHE=str(self.folder)), self.assertRaises(SystemExit):
            sources.hosted(self.source, self.folder / "downloads")

    def test_swapped_download_is_refused_and_not_kept(self):
        with mock.patch.dict(os.environ, MODEL_CACHE=""), mock.patch(
            "urllib.request.urlopen", return_value=io.BytesIO(b"evil")
        ), self.assertRaises(SystemExit):
            sources.hosted(self.source, self.folder / "downloads")
        self.assertFalse((self.folder / "downloads").exists())

    def test_neither_cache_nor_earlier_download_is_taken_with_registries_only(self):
        downloads = self.folder / "downloads"
        downloads.mkdir()
        for folder in (self.folder, downloads):
            (folder / "file.bin").write_bytes(b"good")
        for value, taken in (("1", False), ("0", True), ("", True)):
            with mock.patch.dict(os.environ, MODEL_CACHE=str(self.folder), REGISTRIES_ONLY=value):
                if taken:
                    self.assertEqual(sources.hosted(self.source, downloads), b"good")
                else:
                    with self.assertRaises(sources.Unavailable):
                        sources.hosted(self.source, downloads)

    def test_download_is_kept_for_the_next_time(self):
        with mock.patch.dict(os.environ, MODEL_CACHE=""), mock.patch(
            "urllib.request.urlopen", return_value=io.BytesIO(b"good")
        ) as urlopen:
            for _ in range(2):
                self.assertEqual(sources.hosted(self.source, self.folder / "downloads"), b"good")
        urlopen.assert_called_once()


class Networks(unittest.TestCase):
    def test_int8_weights_are_within_half_a_step(self):
        weights = np.random.default_rng(0).normal(size=(4, 3, 2, 2)) * np.array([1, 10, 0.1, 0])[:, None, None, None]
        integers, scale = quantize_channels(weights)
        back = integers * scale[:, None, None, None]
        self.assertTrue((np.abs(back - weights).reshape(4, -1).max(1) <= scale / 2 + 1e-6).all())
        self.assertEqual(np.abs(integers[:3].reshape(3, -1)).max(1).tolist(), [127, 127, 127])
        self.assertFalse(integers[3].any())

    def test_quantized_network_answers_as_the_float_one(self):
        random = np.random.default_rng(1)
        graph = Graph("small")
        graph.conv("in", "out", random.normal(size=(8, 3, 3, 3)), random.normal(size=8), pads=[1] * 4)
        model = graph.model("in", [1, 3, 5, 5], "out", [1, 8, 5, 5])
        value = {"in": random.normal(size=(1, 3, 5, 5)).astype(np.float32)}
        answers = [session(m.SerializeToString()).run(None, value)[0] for m in (model, quantize_weights(model))]
        self.assertGreater(np.abs(answers[0]).max(), 1)
        self.assertLess(np.abs(answers[0] - answers[1]).max(), 0.2)
        self.assertGreater(np.abs(answers[0] - answers[1]).max(), 0)

    def test_symbols_in_shapes_give_way_to_sizes(self):
        def value(name):
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, "h", "w"])

        nodes = [helper.make_node("Relu", ["in"], ["middle"]), helper.make_node("Relu", ["middle"], ["out"])]
        graph = helper.make_graph(nodes, "g", [value("in")], [value("out")], value_info=[value("middle")])
        model = helper.make_model(graph)
        fix_shapes(model, {"in": [1, 3, 4, 6], "out": [1, 3, 4, 6]})
        onnx.checker.check_model(model)
        self.assertNotIn("batch", str(model))
        self.assertEqual([d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim], [1, 3, 4, 6])

    def test_yunet_cell_becomes_a_face(self):
        outputs = {}
        for stride in detectors.STRIDES:
            cells = (64 // stride) * (32 // stride)
            for name, values in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
                outputs[f"{name}_{stride}"] = np.zeros((1, cells, values), np.float32)
        cell = 6  # column 2, row 1 of stride 16
        outputs["cls_16"][0, cell], outputs["obj_16"][0, cell] = 0.81, 1.5
        outputs["bbox_16"][0, cell] = [0.5, 0.25, np.log(2), 0]
        (face,) = detectors.decode_yunet(outputs, 64, 32, 0.7)
        self.assertAlmostEqual(face.score, 0.9, places=6)
        self.assertEqual(face.box.tolist(), [24, 12, 32, 16])

    def test_face_is_the_mean_of_its_candidates_but_not_of_a_neighbour(self):
        def face(x, score):
            return detectors.Face(np.array([x, 0.0, 10, 10]), np.full((5, 2), float(x)), score)

        (kept,) = detectors.suppress([face(3, 0.6), face(0, 0.9), face(4, 0.3)], 0.3)  # the last overlaps by 0.43
        self.assertAlmostEqual(kept.box[0], 3 * 0.6 / 1.5)
        self.assertAlmostEqual(kept.landmarks[2][1], 3 * 0.6 / 1.5)
        self.assertAlmostEqual(kept.box[2], 10)
        self.assertEqual(kept.score, 0.9)
        (single,) = detectors.suppress([face(3, 0.6), face(0, 0.9)], 0.3, blend=False)
        self.assertEqual(single.box[0], 0)


class Cards(unittest.TestCase):
    def test_card_of_a_bundle_without_liveness_says_so(self):
        folder = Path(__file__).parent
        manifest = {
            "name": "n", "version": "1.0.0", "licence": card.licence("centerface", False),
            "embedder": {"crop": {"kind": "box", "margin": 0.2}}, "detector": {"score_threshold": 0.5},
            "calibration": [{"looks": 1, "pairs": 9, "points": [{"false_match_rate": 0.1, "similarity": 0.5}]}],
        }  # fmt: skip
        text = card.fill(folder, manifest, "centerface", False, 0.9999)
        self.assertIn("NONE IN THIS BUNDLE", text)
        self.assertIn("built without YuNet", text)
        self.assertNotIn("Apache", text)
        self.assertNotIn("<!--", text)
        self.assertNotIn("@{", text)


if __name__ == "__main__":
    unittest.main()
