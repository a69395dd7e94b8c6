// What the unmodified openai SDK for Node reads of an organisation's usage and costs, as a line of JSON.
//
// node organization.mjs <gateway's address> <start, in seconds since 1970>, the admin key in the environment as ADMIN_KEY.

import OpenAI from "openai";

const [address, start] = process.argv.slice(2);
const client = new OpenAI({
  apiKey: "none", adminAPIKey: process.env.ADMIN_KEY, baseURL: `${address}/v1`, maxRetries: 0,
});
const { usage } = client.admin.organization;
const query = { start_time: Number(start), group_by: ["project_id", "model"] };
const completions = await usage.completions({ ...query, models: ["gpt-4o"] });
const costs = await usage.costs({ start_time: Number(start), group_by: ["project_id", "line_item"] });
console.log(JSON.stringify({ completions, costs }));
