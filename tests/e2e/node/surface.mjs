// The unmodified openai SDK for Node through the gateway: every operation with each way to make a client.
//
// node surface.mjs <gateway's address> <api-version>, the key in the environment as GATEWAY_KEY. Prints a line of JSON for each
// case: {"style", "case", "ok", "error"}. A case is named by its operation, and behind a slash by which form of it; it is
// true where the answer is right.

import OpenAI, { AzureOpenAI, toFile } from "openai";

const [address, apiVersion] = process.argv.slice(2);
const apiKey = process.env.GATEWAY_KEY;
const AT_ONCE = 8;

const STYLES = {
  "OpenAI /v1": () => new OpenAI({ apiKey, baseURL: `${address}/v1`, maxRetries: 0 }),
  "OpenAI /openai/v1": () => new OpenAI({ apiKey, baseURL: `${address}/openai/v1`, maxRetries: 0 }),
  AzureOpenAI: () => new AzureOpenAI({ apiKey, endpoint: address, apiVersion, maxRetries: 0 }),
};

const TEXT = "Zürich \u2028 東京\r\n";
const CHAT = { model: "gpt-4o", messages: [{ role: "user", content: "Where does the ferry land?" }] };
const ITEM = { type: "message", role: "user", content: [{ type: "input_text", text: "hi" }] };
const EVAL = { data_source_config: { type: "custom", item_schema: {} }, testing_criteria: [] };
const EVAL_RUN = { data_source: { type: "jsonl", source: { type: "file_content", content: [] } } };
const LINE = { custom_id: "1", method: "POST", url: "/v1/chat/completions", body: CHAT };

const GRADER = { type: "score_model", name: "g", model: "gpt-4o", input: [] };

const text = () => toFile(Buffer.from(TEXT), "text.txt");
const sound = () => toFile(Buffer.concat([Buffer.from("RIFF"), Buffer.alloc(40_000)]), "said.wav");
const picture = () => toFile(Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), Buffer.alloc(64)]), "seen.png");

// How to make each kind of object. `a` is what shared() gives: `await a.file` is one object for all cases that only look at it.
const MAKE = {
  file: async (a) => a.sdk.files.create({ file: await text(), purpose: "assistants" }),
  response: (a) => a.sdk.responses.create({ model: "gpt-4o", input: "hello" }),
  completion: (a) => a.sdk.chat.completions.create({ ...CHAT, store: true, metadata: { a: "b" } }),
  batch: async (a) => {
    const file = await toFile(Buffer.from(JSON.stringify(LINE)), "in.jsonl");
    const input = await a.sdk.files.create({ file, purpose: "batch" });
    return a.sdk.batches.create({
      input_file_id: input.id, endpoint: "/v1/chat/completions", completion_window: "24h",
    });
  },
  upload: (a) => a.sdk.uploads.create({ bytes: 6, filename: "u.txt", mime_type: "text/plain", purpose: "assistants" }),
  job: async (a) => a.sdk.fineTuning.jobs.create({ model: "gpt-4o-mini", training_file: (await a.file).id }),
  store: (a) => a.sdk.vectorStores.create({ name: "papers" }),
  storeFile: async (a) =>
    a.sdk.vectorStores.files.create((await a.store).id, { file_id: (await MAKE.file(a)).id }),
  fileBatch: async (a) =>
    a.sdk.vectorStores.fileBatches.create((await a.store).id, { file_ids: [(await a.file).id] }),
  container: (a) => a.sdk.containers.create({ name: "box" }),
  video: (a) => a.sdk.videos.create({ prompt: "a ferry", model: "sora-2" }),
  skill: async (a) => a.sdk.skills.create({ files: await text() }),
  version: async (a) => a.sdk.skills.versions.create((await a.skill).id, { files: await text() }),
  containerFile: async (a) => a.sdk.containers.files.create((await a.container).id, { file: await text() }),
  eval: (a) => a.sdk.evals.create(EVAL),
  evalRun: async (a) => a.sdk.evals.runs.create((await a.eval).id, EVAL_RUN),
  conversation: (a) => a.sdk.conversations.create({ metadata: { who: "me" } }),
  item: async (a) => (await a.sdk.conversations.items.create((await a.conversation).id, { items: [ITEM] })).data[0],
  assistant: (a) => a.sdk.beta.assistants.create({ model: "gpt-4o", name: "guide" }),
  thread: (a) => a.sdk.beta.threads.create({ metadata: { who: "me" } }),
  message: async (a) => a.sdk.beta.threads.messages.create((await a.thread).id, { role: "user", content: "hello" }),
  run: async (a) => a.sdk.beta.threads.runs.create((await a.thread).id, { assistant_id: (await a.assistant).id }),
};

function shared(sdk) {
  const made = { sdk };
  for (const [name, make] of Object.entries(MAKE)) {
    let object;
    const get = () => {
      if (!object) (object = make(made)).catch(() => {}); // whoever waits for it is told
      return object;
    };
    Object.defineProperty(made, name, { get });
  }
  return made;
}

async function all(page) {
  const found = [];
  for await (const each of page) found.push(each);
  return found;
}
// Whether a list, asked for once the object is there, has it.
const has = async (list, object) => {
  const { id } = await object;
  return (await all(list())).some((each) => each.id === id);
};
const isOver = ({ status }) => ["cancelled", "completed"].includes(status); // whichever came first
const bytes = async (answer) => Buffer.from(await (await answer).arrayBuffer());

async function finished(a, batch) {
  const deadline = Date.now() + 10_000;
  while (batch.status !== "completed" && Date.now() < deadline) batch = await a.sdk.batches.retrieve(batch.id);
  return batch;
}

const CASES = {
  "chat.completions": async (a) => (await a.sdk.chat.completions.create(CHAT)).usage.total_tokens > 0,
  "chat.completions/stream": async (a) => {
    const chunks = await all(await a.sdk.chat.completions.create({ ...CHAT, stream: true }));
    const said = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
    const whole = (await a.sdk.chat.completions.create(CHAT)).choices[0].message.content;
    return said === whole && !chunks.some((chunk) => chunk.usage);
  },
  "chat.completions.list": async (a) => has(() => a.sdk.chat.completions.list(), a.completion),
  "chat.completions.retrieve": async (a) =>
    (await a.sdk.chat.completions.retrieve((await a.completion).id)).choices[0].message.content ===
    (await a.completion).choices[0].message.content,
  "chat.completions.update": async (a) =>
    (await a.sdk.chat.completions.update((await a.completion).id, { metadata: { a: "c" } })).metadata.a === "c",
  "chat.completions.delete": async (a) => (await a.sdk.chat.completions.delete((await MAKE.completion(a)).id)).deleted,
  "chat.completions.messages": async (a) =>
    (await all(a.sdk.chat.completions.messages.list((await a.completion).id)))[0].content === CHAT.messages[0].content,
  completions: async (a) =>
    (await a.sdk.completions.create({ model: "gpt-4o", prompt: "Once", max_tokens: 8 })).choices[0].text !== "",
  "completions/stream": async (a) => {
    const asked = { model: "gpt-4o", prompt: "Once", max_tokens: 8 };
    const chunks = await all(await a.sdk.completions.create({ ...asked, stream: true }));
    const said = chunks.map((chunk) => chunk.choices[0]?.text ?? "").join("");
    return said === (await a.sdk.completions.create(asked)).choices[0].text;
  },
  embeddings: async (a) =>
    (await a.sdk.embeddings.create({ model: "text-embedding-3-small", input: ["a", "b"] })).data.every(
      (each) => each.embedding.length === 1536,
    ),
  "images.generate": async (a) =>
    (await a.sdk.images.generate({ model: "gpt-image-1", prompt: "a pier" })).usage.output_tokens > 0,
  "images.generate/stream": async (a) => {
    const events = await all(await a.sdk.images.generate({ model: "gpt-image-1", prompt: "a pier", stream: true }));
    return events.at(-1).type === "image_generation.completed" && events.at(-1).usage.total_tokens > 0;
  },
  "images.edit": async (a) =>
    (await a.sdk.images.edit({ model: "gpt-image-1", image: [await picture(), await picture()], prompt: "night" })).usage
      .input_tokens_details.image_tokens === 388,
  "images.create_variation": async (a) =>
    (await a.sdk.images.createVariation({ model: "dall-e-3", image: await picture(), n: 2 })).data.length === 2,
  "audio.transcriptions": async (a) =>
    (await a.sdk.audio.transcriptions.create({ model: "whisper-1", file: await sound() })).text !== "",
  "audio.transcriptions/stream": async (a) => {
    const asked = { model: "gpt-4o-transcribe", file: await sound(), stream: true };
    const events = await all(await a.sdk.audio.transcriptions.create(asked));
    const said = events.map((event) => event.delta ?? "").join("");
    return said.trim() === events.at(-1).text;
  },
  "audio.translations": async (a) =>
    (await a.sdk.audio.translations.create({ model: "whisper-1", file: await sound() })).text !== "",
  "audio.speech": async (a) =>
    (await bytes(a.sdk.audio.speech.create({ model: "gpt-4o-mini-tts", voice: "alloy", input: "Mind the gap" })))
      .length === 32_768,
  moderations: async (a) =>
    (await a.sdk.moderations.create({ model: "omni-moderation-latest", input: ["violence", "tea"] })).results
      .map((each) => each.flagged)
      .join() === "true,false",
  "models.list": async (a) => has(() => a.sdk.models.list(), { id: "gpt-4o" }),
  "models.retrieve": async (a) => (await a.sdk.models.retrieve("gpt-4o")).id === "gpt-4o",
  responses: async (a) => {
    const asked = { model: "gpt-4o", input: "and?", previous_response_id: (await a.response).id };
    return (await a.sdk.responses.create(asked)).output_text !== "";
  },
  "responses/stream": async (a) => {
    const stream = a.sdk.responses.stream({ model: "o4-mini", input: "hello" });
    const events = await all(stream);
    const said = events.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta);
    const whole = await stream.finalResponse();
    const again = await a.sdk.responses.retrieve(whole.id);
    return said.length > 0 && said.join("") === whole.output_text && whole.output_text === again.output_text;
  },
  "responses.input_tokens": async (a) =>
    (await a.sdk.responses.inputTokens.count({ model: "gpt-4o", input: "hello" })).input_tokens > 0,
  "responses.compact": async (a) => {
    const asked = { model: "gpt-4o", previous_response_id: (await a.response).id };
    return (await a.sdk.responses.compact(asked)).output[0].type === "compaction";
  },
  "responses.retrieve": async (a) =>
    (await a.sdk.responses.retrieve((await a.response).id)).output_text === (await a.response).output_text,
  "responses.delete": async (a) =>
    (await a.sdk.responses.delete((await MAKE.response(a)).id).asResponse()).status === 200,
  "responses.cancel": async (a) => {
    const begun = await a.sdk.responses.create({ model: "gpt-4o", input: "hello", background: true });
    return isOver(await a.sdk.responses.cancel(begun.id));
  },
  "responses.input_items": async (a) =>
    (await all(a.sdk.responses.inputItems.list((await a.response).id)))[0].content === "hello",
  "conversations.create": async (a) => (await MAKE.conversation(a)).metadata.who === "me",
  "conversations.retrieve": async (a) =>
    (await a.sdk.conversations.retrieve((await a.conversation).id)).id === (await a.conversation).id,
  "conversations.update": async (a) =>
    (await a.sdk.conversations.update((await a.conversation).id, { metadata: { who: "you" } })).metadata.who === "you",
  "conversations.delete": async (a) => (await a.sdk.conversations.delete((await MAKE.conversation(a)).id)).deleted,
  "conversations.items.create": async (a) => (await MAKE.item(a)).content[0].text === "hi",
  "conversations.items.list": async (a) => {
    const { id } = await a.conversation;
    return has(() => a.sdk.conversations.items.list(id), a.item);
  },
  "conversations.items.retrieve": async (a) => {
    const within = { conversation_id: (await a.conversation).id };
    return (await a.sdk.conversations.items.retrieve((await a.item).id, within)).id === (await a.item).id;
  },
  "conversations.items.delete": async (a) => {
    const within = { conversation_id: (await a.conversation).id };
    return Boolean(await a.sdk.conversations.items.delete((await MAKE.item(a)).id, within));
  },
  "files.create": async (a) => (await MAKE.file(a)).bytes === Buffer.byteLength(TEXT),
  "files.list": async (a) => has(() => a.sdk.files.list({ purpose: "assistants" }), a.file),
  "files.retrieve": async (a) => (await a.sdk.files.retrieve((await a.file).id)).filename === "text.txt",
  "files.delete": async (a) => (await a.sdk.files.delete((await MAKE.file(a)).id)).deleted,
  "files.content": async (a) => (await bytes(a.sdk.files.content((await a.file).id))).equals(Buffer.from(TEXT)),
  "uploads.create": async (a) => (await MAKE.upload(a)).status === "pending",
  "uploads.parts.create": async (a) =>
    (await a.sdk.uploads.parts.create((await MAKE.upload(a)).id, { data: await toFile(Buffer.from("abcdef")) }))
      .object === "upload.part",
  "uploads.complete": async (a) => {
    const upload = await MAKE.upload(a);
    const part = await a.sdk.uploads.parts.create(upload.id, { data: await toFile(Buffer.from("abcdef")) });
    const whole = await a.sdk.uploads.complete(upload.id, { part_ids: [part.id] });
    return (await bytes(a.sdk.files.content(whole.file.id))).equals(Buffer.from("abcdef"));
  },
  "uploads.cancel": async (a) => (await a.sdk.uploads.cancel((await MAKE.upload(a)).id)).status === "cancelled",
  "batches.create": async (a) => (await MAKE.batch(a)).request_counts.total === 1,
  "batches.list": async (a) => has(() => a.sdk.batches.list(), a.batch),
  "batches.retrieve": async (a) => (await finished(a, await a.batch)).request_counts.completed === 1,
  "batches.cancel": async (a) => isOver(await a.sdk.batches.cancel((await MAKE.batch(a)).id)),
  "fine_tuning.jobs.create": async (a) => (await MAKE.job(a)).status === "queued",
  "fine_tuning.jobs.list": async (a) => has(() => a.sdk.fineTuning.jobs.list(), a.job),
  "fine_tuning.jobs.retrieve": async (a) =>
    (await a.sdk.fineTuning.jobs.retrieve((await a.job).id)).training_file === (await a.file).id,
  "fine_tuning.jobs.cancel": async (a) =>
    (await a.sdk.fineTuning.jobs.cancel((await MAKE.job(a)).id)).status === "cancelled",
  "fine_tuning.jobs.pause": async (a) => (await a.sdk.fineTuning.jobs.pause((await MAKE.job(a)).id)).status === "paused",
  "fine_tuning.jobs.resume": async (a) =>
    (await a.sdk.fineTuning.jobs.resume((await MAKE.job(a)).id)).status === "running",
  "fine_tuning.jobs.events": async (a) =>
    (await all(a.sdk.fineTuning.jobs.listEvents((await a.job).id)))[0].message === "Queued",
  "fine_tuning.jobs.checkpoints": async (a) =>
    (await all(a.sdk.fineTuning.jobs.checkpoints.list((await a.job).id)))[0].step_number === 1,
  "vector_stores.create": async (a) => (await MAKE.store(a)).name === "papers",
  "vector_stores.list": async (a) => has(() => a.sdk.vectorStores.list(), a.store),
  "vector_stores.retrieve": async (a) =>
    (await a.sdk.vectorStores.retrieve((await a.store).id)).id === (await a.store).id,
  "vector_stores.update": async (a) =>
    (await a.sdk.vectorStores.update((await a.store).id, { name: "papers" })).name === "papers",
  "vector_stores.delete": async (a) => (await a.sdk.vectorStores.delete((await MAKE.store(a)).id)).deleted,
  "vector_stores.search": async (a) => {
    const file = await a.storeFile;
    const hits = await all(a.sdk.vectorStores.search((await a.store).id, { query: "where" }));
    return hits.some((hit) => hit.file_id === file.id);
  },
  "vector_stores.files.create": async (a) => (await MAKE.storeFile(a)).status === "completed",
  "vector_stores.files.list": async (a) => {
    const { id } = await a.store;
    return has(() => a.sdk.vectorStores.files.list(id), a.storeFile);
  },
  "vector_stores.files.retrieve": async (a) =>
    (await a.sdk.vectorStores.files.retrieve((await a.storeFile).id, { vector_store_id: (await a.store).id })).id ===
    (await a.storeFile).id,
  "vector_stores.files.update": async (a) => {
    const changed = { vector_store_id: (await a.store).id, attributes: { a: 1 } };
    return (await a.sdk.vectorStores.files.update((await a.storeFile).id, changed)).attributes.a === 1;
  },
  "vector_stores.files.delete": async (a) => {
    const within = { vector_store_id: (await a.store).id };
    return (await a.sdk.vectorStores.files.delete((await MAKE.storeFile(a)).id, within)).deleted;
  },
  "vector_stores.files.content": async (a) => {
    const within = { vector_store_id: (await a.store).id };
    return (await all(a.sdk.vectorStores.files.content((await a.storeFile).id, within)))[0].text === TEXT;
  },
  "vector_stores.file_batches.create": async (a) => (await MAKE.fileBatch(a)).status === "completed",
  "vector_stores.file_batches.retrieve": async (a) => {
    const within = { vector_store_id: (await a.store).id };
    return (await a.sdk.vectorStores.fileBatches.retrieve((await a.fileBatch).id, within)).id === (await a.fileBatch).id;
  },
  "vector_stores.file_batches.cancel": async (a) => {
    const within = { vector_store_id: (await a.store).id };
    return (await a.sdk.vectorStores.fileBatches.cancel((await MAKE.fileBatch(a)).id, within)).status === "cancelled";
  },
  "vector_stores.file_batches.files": async (a) => {
    const within = { vector_store_id: (await a.store).id };
    return (await all(a.sdk.vectorStores.fileBatches.listFiles((await a.fileBatch).id, within))).length === 1;
  },
  "containers.create": async (a) => (await MAKE.container(a)).status === "running",
  "containers.list": async (a) => has(() => a.sdk.containers.list(), a.container),
  "containers.retrieve": async (a) => (await a.sdk.containers.retrieve((await a.container).id)).name === "box",
  "containers.delete": async (a) =>
    (await a.sdk.containers.delete((await MAKE.container(a)).id).asResponse()).status === 200,
  "containers.files.create": async (a) => (await MAKE.containerFile(a)).object === "container.file",
  "containers.files.create/by id": async (a) =>
    (await a.sdk.containers.files.create((await a.container).id, { file_id: (await a.file).id })).object ===
    "container.file",
  "containers.files.list": async (a) => {
    const { id } = await a.container;
    return has(() => a.sdk.containers.files.list(id), a.containerFile);
  },
  "containers.files.retrieve": async (a) => {
    const within = { container_id: (await a.container).id };
    return (await a.sdk.containers.files.retrieve((await a.containerFile).id, within)).id === (await a.containerFile).id;
  },
  "containers.files.delete": async (a) => {
    const within = { container_id: (await a.container).id };
    return (await a.sdk.containers.files.delete((await MAKE.containerFile(a)).id, within).asResponse()).status === 200;
  },
  "containers.files.content": async (a) => {
    const within = { container_id: (await a.container).id };
    const content = a.sdk.containers.files.content.retrieve((await a.containerFile).id, within);
    return (await bytes(content)).equals(Buffer.from(TEXT));
  },
  "evals.create": async (a) => (await MAKE.eval(a)).testing_criteria.length === 0,
  "evals.list": async (a) => has(() => a.sdk.evals.list(), a.eval),
  "evals.retrieve": async (a) => (await a.sdk.evals.retrieve((await a.eval).id)).id === (await a.eval).id,
  "evals.update": async (a) => (await a.sdk.evals.update((await a.eval).id, { name: "again" })).name === "again",
  "evals.delete": async (a) => (await a.sdk.evals.delete((await MAKE.eval(a)).id)).deleted,
  "evals.runs.create": async (a) => (await MAKE.evalRun(a)).status === "queued",
  "evals.runs.list": async (a) => {
    const { id } = await a.eval;
    return has(() => a.sdk.evals.runs.list(id), a.evalRun);
  },
  "evals.runs.retrieve": async (a) =>
    (await a.sdk.evals.runs.retrieve((await a.evalRun).id, { eval_id: (await a.eval).id })).id === (await a.evalRun).id,
  "evals.runs.cancel": async (a) =>
    (await a.sdk.evals.runs.cancel((await MAKE.evalRun(a)).id, { eval_id: (await a.eval).id })).status === "canceled",
  "evals.runs.delete": async (a) =>
    (await a.sdk.evals.runs.delete((await MAKE.evalRun(a)).id, { eval_id: (await a.eval).id })).deleted,
  "evals.runs.output_items.list": async (a) => {
    const within = { eval_id: (await a.eval).id };
    return (await all(a.sdk.evals.runs.outputItems.list((await a.evalRun).id, within)))[0].status === "pass";
  },
  "evals.runs.output_items.retrieve": async (a) => {
    const within = { eval_id: (await a.eval).id };
    const [item] = await all(a.sdk.evals.runs.outputItems.list((await a.evalRun).id, within));
    const found = a.sdk.evals.runs.outputItems.retrieve(item.id, { ...within, run_id: (await a.evalRun).id });
    return (await found).id === item.id;
  },
  "assistants.create": async (a) => (await MAKE.assistant(a)).name === "guide",
  "assistants.list": async (a) => has(() => a.sdk.beta.assistants.list(), a.assistant),
  "assistants.retrieve": async (a) =>
    (await a.sdk.beta.assistants.retrieve((await a.assistant).id)).model === "gpt-4o",
  "assistants.update": async (a) =>
    (await a.sdk.beta.assistants.update((await a.assistant).id, { name: "pilot" })).name === "pilot",
  "assistants.delete": async (a) => (await a.sdk.beta.assistants.delete((await MAKE.assistant(a)).id)).deleted,
  "threads.create": async (a) => (await MAKE.thread(a)).metadata.who === "me",
  "threads.create_and_run": async (a) =>
    (await a.sdk.beta.threads.createAndRun({ assistant_id: (await a.assistant).id, thread: {} })).status ===
    "completed",
  "threads.retrieve": async (a) => (await a.sdk.beta.threads.retrieve((await a.thread).id)).id === (await a.thread).id,
  "threads.update": async (a) =>
    (await a.sdk.beta.threads.update((await a.thread).id, { metadata: { a: "b" } })).metadata.a === "b",
  "threads.delete": async (a) => (await a.sdk.beta.threads.delete((await MAKE.thread(a)).id)).deleted,
  "threads.messages.create": async (a) => (await MAKE.message(a)).content === "hello",
  "threads.messages.list": async (a) => {
    const { id } = await a.thread;
    return has(() => a.sdk.beta.threads.messages.list(id), a.message);
  },
  "threads.messages.retrieve": async (a) => {
    const within = { thread_id: (await a.thread).id };
    return (await a.sdk.beta.threads.messages.retrieve((await a.message).id, within)).id === (await a.message).id;
  },
  "threads.messages.update": async (a) => {
    const changed = { thread_id: (await a.thread).id, metadata: { a: "b" } };
    return (await a.sdk.beta.threads.messages.update((await a.message).id, changed)).metadata.a === "b";
  },
  "threads.messages.delete": async (a) => {
    const within = { thread_id: (await a.thread).id };
    return (await a.sdk.beta.threads.messages.delete((await MAKE.message(a)).id, within)).deleted;
  },
  "threads.runs.create": async (a) => (await MAKE.run(a)).usage.total_tokens === 30,
  "threads.runs.list": async (a) => {
    const { id } = await a.thread;
    return has(() => a.sdk.beta.threads.runs.list(id), a.run);
  },
  "threads.runs.retrieve": async (a) => {
    const within = { thread_id: (await a.thread).id };
    return (await a.sdk.beta.threads.runs.retrieve((await a.run).id, within)).id === (await a.run).id;
  },
  "threads.runs.update": async (a) => {
    const changed = { thread_id: (await a.thread).id, metadata: { a: "b" } };
    return (await a.sdk.beta.threads.runs.update((await a.run).id, changed)).metadata.a === "b";
  },
  "threads.runs.cancel": async (a) => {
    const within = { thread_id: (await a.thread).id };
    return (await a.sdk.beta.threads.runs.cancel((await MAKE.run(a)).id, within)).status === "cancelled";
  },
  "threads.runs.submit_tool_outputs": async (a) => {
    const given = { thread_id: (await a.thread).id, tool_outputs: [] };
    return (await a.sdk.beta.threads.runs.submitToolOutputs((await a.run).id, given)).status === "completed";
  },
  "threads.runs.steps.list": async (a) => {
    const within = { thread_id: (await a.thread).id };
    return (await all(a.sdk.beta.threads.runs.steps.list((await a.run).id, within)))[0].status === "completed";
  },
  "threads.runs.steps.retrieve": async (a) => {
    const within = { thread_id: (await a.thread).id };
    const [step] = await all(a.sdk.beta.threads.runs.steps.list((await a.run).id, within));
    const found = a.sdk.beta.threads.runs.steps.retrieve(step.id, { ...within, run_id: (await a.run).id });
    return (await found).id === step.id;
  },
  "videos.create": async (a) => (await MAKE.video(a)).status === "completed",
  "videos.list": async (a) => has(() => a.sdk.videos.list(), a.video),
  "videos.retrieve": async (a) => (await a.sdk.videos.retrieve((await a.video).id)).id === (await a.video).id,
  "videos.delete": async (a) => (await a.sdk.videos.delete((await MAKE.video(a)).id)).deleted,
  "videos.content": async (a) => (await bytes(a.sdk.videos.downloadContent((await a.video).id))).includes("ftyp"),
  "videos.remix": async (a) =>
    (await a.sdk.videos.remix((await a.video).id, { prompt: "at night" })).id !== (await a.video).id,
  "videos.edit": async (a) =>
    (await a.sdk.videos.edit({ prompt: "at night", video: await picture() })).status === "completed",
  "videos.extend": async (a) =>
    (await a.sdk.videos.extend({ prompt: "on", seconds: "4", video: await picture() })).status === "completed",
  "skills.create": async (a) => (await MAKE.skill(a)).object === "skill",
  "skills.list": async (a) => has(() => a.sdk.skills.list(), a.skill),
  "skills.retrieve": async (a) => (await a.sdk.skills.retrieve((await a.skill).id)).id === (await a.skill).id,
  "skills.update": async (a) =>
    (await a.sdk.skills.update((await MAKE.skill(a)).id, { default_version: "2" })).default_version === "2",
  "skills.delete": async (a) => (await a.sdk.skills.delete((await MAKE.skill(a)).id)).deleted,
  "skills.content": async (a) =>
    (await bytes(a.sdk.skills.content.retrieve((await a.skill).id))).subarray(0, 2).toString() === "PK",
  "skills.versions.create": async (a) => (await MAKE.version(a)).object === "skill.version",
  "skills.versions.list": async (a) => {
    const { id } = await a.skill;
    return has(() => a.sdk.skills.versions.list(id), a.version);
  },
  "skills.versions.retrieve": async (a) => {
    const within = { skill_id: (await a.skill).id };
    return (await a.sdk.skills.versions.retrieve((await a.version).id, within)).id === (await a.version).id;
  },
  "skills.versions.delete": async (a) => {
    const within = { skill_id: (await a.skill).id };
    return (await a.sdk.skills.versions.delete((await MAKE.version(a)).id, within)).deleted;
  },
  "skills.versions.content": async (a) => {
    const within = { skill_id: (await a.skill).id };
    const content = a.sdk.skills.versions.content.retrieve((await a.version).id, within);
    return (await bytes(content)).subarray(0, 2).toString() === "PK";
  },
  "fine_tuning.alpha.graders.run": async (a) =>
    (await a.sdk.fineTuning.alpha.graders.run({ grader: GRADER, model_sample: "a" })).reward === 1,
  "fine_tuning.alpha.graders.validate": async (a) =>
    (await a.sdk.fineTuning.alpha.graders.validate({ grader: GRADER })).grader.model === "gpt-4o",
  "realtime.transcription_sessions.create": async (a) =>
    (await a.sdk.beta.realtime.transcriptionSessions.create({})).client_secret.value.startsWith("ek_"),
  "realtime.client_secrets.create": async (a) =>
    (await a.sdk.realtime.clientSecrets.create({ session: { type: "realtime", model: "gpt-4o" } })).value.startsWith(
      "ek_",
    ),
  "realtime.sessions.create": async (a) =>
    (await a.sdk.beta.realtime.sessions.create({})).client_secret.value.startsWith("ek_"),
};

async function told(style, name, a) {
  try {
    return { style, case: name, ok: (await CASES[name](a)) === true };
  } catch (error) {
    return { style, case: name, ok: false, error: String(error) };
  }
}

const clients = Object.entries(STYLES).map(([style, client]) => [style, shared(client())]);
const waiting = clients.flatMap(([style, a]) => Object.keys(CASES).map((name) => [style, name, a]));
const worker = async () => {
  for (let next = waiting.shift(); next; next = waiting.shift()) console.log(JSON.stringify(await told(...next)));
};
await Promise.all(Array.from({ length: AT_ONCE }, worker));
