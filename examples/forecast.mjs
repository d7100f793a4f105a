// node forecast.mjs model.onnx inputs.json: the forecast as JSON. Needs npm install onnxruntime-node.
import {readFileSync} from "node:fs";
import {createRequire} from "node:module";
const ort = createRequire(`${process.cwd()}/`)("onnxruntime-node");

const [model, inputs] = process.argv.slice(2);
const {context, horizon, covariates} = JSON.parse(readFileSync(inputs));
const tensor = (values) => {
  const sizes = [values.length, values[0].length, values[0][0].length];
  const numbers = values.flat(2).map((value) => (value === null ? NaN : value));
  return new ort.Tensor("float32", Float32Array.from(numbers), sizes);
};
const session = await ort.InferenceSession.create(model);
const given = {context: tensor(context), horizon: new ort.Tensor("int64", BigInt64Array.of(BigInt(horizon)), [1])};
if (covariates) given.covariates = tensor(covariates);
if (session.inputNames.includes("noise")) given.noise = new ort.Tensor("float32", [0], [1, 1, 1, 1]);
const {forecast} = await session.run(given);
console.log(JSON.stringify({dims: forecast.dims, forecast: [...forecast.data]}));
