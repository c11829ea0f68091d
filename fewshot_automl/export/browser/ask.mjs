// Answers in the browser, as predict.py does: the same model, read and decided alike.
import * as ort from "./ort.wasm.bundle.min.mjs";
import { Tokenizer } from "./tokenizers.min.mjs";

ort.env.wasm.numThreads = 1;
const sum = (values) => values.reduce((a, b) => a + b, 0);

async function bytes(name) { // of the folder, or of the one file that holds all
  const held = document.getElementById(name);
  if (!held) return new Uint8Array(await (await fetch(name)).arrayBuffer());
  const text = atob(held.textContent), found = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) found[at] = text.charCodeAt(at);
  return found;
}
const json = async (name) => JSON.parse(new TextDecoder().decode(await bytes(name)));
const READERS = {
  async text(feed) {
    const tokenizer = new Tokenizer(await json(feed.file), {});
    const [a, whole] = [false, true].map((x) => tokenizer.encode("a", { add_special_tokens: x }).ids);
    const before = whole.indexOf(a[0]), after = whole.length - before - a.length;
    return async (text) => {
      let { ids } = tokenizer.encode(feed.prefix + text);
      if (ids.length > feed.max_tokens) ids = [...ids.slice(0, feed.max_tokens - after), ...ids.slice(ids.length - after)];
      ids = BigInt64Array.from(ids.length ? ids : [feed.pad_id], BigInt);
      return [ids, ids.map(() => 1n)].map((x) => new ort.Tensor("int64", x, [1, ids.length]));
    };
  },
  async terms(feed) {
    const tables = await json(feed.file);
    for (const table of tables) table.places = new Map(table.terms.map((term, at) => [term, at]));
    return async (text) => {
      const parts = tables.map((table) => unit(weights(text.toLowerCase(), table)));
      return [new ort.Tensor("float32", Float32Array.from(unit(parts.flat())), [1, feed.width])];
    };
  },
  async image(feed) {
    return async (file) => new Array(new ort.Tensor("float32", await pixels(file, feed), [1, 3, feed.size, feed.size]));
  },
};

function unit(row) {
  const norm = Math.hypot(...row.filter(Boolean)) || 1;
  return row.map((x) => x / norm);
}

function weights(text, { analyzer, lengths: [low, high], places, weights }) {
  const counts = new Map(), add = (term) => counts.set(term, (counts.get(term) ?? 0) + 1);
  const words = analyzer === "word" ? [text.match(/[\p{L}\p{N}_]+/gu) ?? []] : text.split(/\s+/).filter(Boolean).map((x) => [...` ${x} `]);
  for (const parts of words) {
    const join = analyzer === "word" ? " " : "";
    for (let size = low; size <= high; size++) {
      for (let at = 0; at + size <= parts.length; at++) add(parts.slice(at, at + size).join(join));
      if (join || size < parts.length) continue;
      if (size > parts.length) add(parts.join("")); // a short word counts once
      break;
    }
  }
  const row = new Array(weights.length).fill(0);
  for (const [term, count] of counts) if (places.has(term)) row[places.get(term)] = (1 + Math.log(count)) * weights[places.get(term)];
  return row;
}

async function pixels(file, { size, mean, std, interpolation, crop_fraction }) {
  const picture = await createImageBitmap(file), { width, height } = picture;
  if (width * height > 64e6) throw new Error("An image must have at most 64,000,000 pixels.");
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const side = (Math.min(width, height) * size) / Math.trunc(size / crop_fraction);
  const across = kernel(width, (width - side) / 2, side, size, interpolation);
  const down = kernel(height, (height - side) / 2, side, size, interpolation);
  const rows = new Uint8ClampedArray(height * size * 3), out = new Float32Array(3 * size * size);
  for (let y = down[0].from; y < down[size - 1].from + down[size - 1].k.length; y++)
    for (let x = 0; x < size; x++)
      for (let c = 0; c < 3; c++) rows[(y * size + x) * 3 + c] = weighed(across[x], (at) => data[(y * width + at) * 4 + c]);
  for (let y = 0; y < size; y++)
    for (let x = 0; x < size; x++)
      for (let c = 0; c < 3; c++) out[(c * size + y) * size + x] = (Math.min(255, Math.max(0, weighed(down[y], (at) => rows[(at * size + x) * 3 + c]))) / 255 - mean[c]) / std[c];
  return out;
}

function weighed({ from, k }, value) { // in whole numbers of 2^-22, as Pillow does
  let total = 2 ** 21;
  for (let at = 0; at < k.length; at++) total += k[at] * value(from + at);
  return Math.floor(total / 2 ** 22);
}

function kernel(length, start, side, size, interpolation) {
  const cubic = (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0);
  const lanczos = (x) => (x === 0 ? 1 : x < 3 ? (3 * Math.sin(Math.PI * x) * Math.sin((Math.PI * x) / 3)) / (Math.PI * x) ** 2 : 0);
  const [reach, weight] = { bilinear: [1, (x) => Math.max(0, 1 - x)], bicubic: [2, cubic], lanczos: [3, lanczos] }[interpolation];
  const scale = side / size, wide = Math.max(scale, 1);
  return Array.from({ length: size }, (_, place) => {
    const center = start + (place + 0.5) * scale, from = Math.max(Math.trunc(center - reach * wide + 0.5), 0);
    const to = Math.min(Math.trunc(center + reach * wide + 0.5), length);
    const raw = Array.from({ length: to - from }, (_, at) => weight(Math.abs((from + at - center + 0.5) / wide))), total = sum(raw);
    return { from, k: raw.map((x) => Math.trunc((x / total) * 2 ** 22 + (x < 0 ? -0.5 : 0.5))) };
  });
}

function decided(found, { classes, decision: rule }) {
  let p = Array.from(found, (x, at) => x * (rule?.ratios[at] ?? 1));
  const total = sum(p);
  p = p.map((x) => x / total);
  const cost = classes.map((_, to) => (rule ? sum(p.map((x, at) => x * rule.factors[at] * rule.costs[at][to])) : -p[to]));
  const at = cost.indexOf(Math.min(...cost)), isLeft = rule && rule.limit !== null && cost[at] > rule.limit;
  return { answer: isLeft ? null : classes[at], probabilities: Object.fromEntries(classes.map((name, to) => [name, p[to]])) };
}

async function opened() {
  const manifest = await json("manifest.json");
  ort.env.wasm.wasmBinary = (await bytes("ort-wasm-simd-threaded.wasm")).buffer;
  const session = await ort.InferenceSession.create(await bytes("model.onnx"), { executionProviders: ["wasm"] });
  return { manifest, session, feeds: await Promise.all(manifest.feeds.map(async (feed) => [feed, await READERS[feed.kind](feed)])) };
}
const ready = opened();
export const about = async () => ({ ...(await ready).manifest, ...(await ready).manifest.task });
export async function ask(inputs) {
  const { manifest, session, feeds } = await ready, answers = [];
  for (const input of inputs) {
    const one = manifest.task.modality === "text" && typeof input !== "string" ? await input.text() : input, given = {};
    for (const [feed, read] of feeds) (await read(one)).forEach((tensor, at) => (given[feed.inputs[at]] = tensor));
    answers.push(decided((await session.run(given)).probabilities.data, manifest));
  }
  return answers;
}
