// node forecast.mjs model.onnx inputs.json: forecasts as JSON. Needs npm install onnxruntime-node.
// The inputs are {"context": batch x time x feature, "horizon": 24, "season": [12, ...], "covariates": ...}, with null
// for a value that is unknown; season for the pretrained network, covariates for a network that has them.
import {readFileSync} from "node:fs";
import {createRequire} from "node:module";
const ort = createRequire(`${process.cwd()}/`)("onnxruntime-node");

const [model, inputs] = process.argv.slice(2);
const {context, horizon, season = context.map(() => 1), covariates} = JSON.parse(readFileSync(inputs));
const tensor = (values) => {
  const sizes = [values.length, values[0].length, values[0][0].length];
  const numbers = values.flat(2).map((value) => (value === null ? NaN : value));
  return new ort.Tensor("float32", Float32Array.from(numbers), sizes);
};
const integers = (values) => new ort.Tensor("int64", BigInt64Array.from(values.map(BigInt)), [values.length]);

const session = await ort.InferenceSession.create(model);
const given = {context: tensor(context), horizon: integers([horizon])};
if (covariates) given.covariates = tensor(covariates);
if (session.inputNames.includes("season")) given.season = integers(season);
if (session.inputNames.includes("noise")) given.noise = new ort.Tensor("float32", [0], [1, 1, 1, 1]);
const outputs = await session.run(given);
const numbers = session.outputNames.map((name) => [name, [...outputs[name].data]]);
console.log(JSON.stringify({dims: outputs.forecast.dims, ...Object.fromEntries(numbers)}));
