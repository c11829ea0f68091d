// Asks the server that the page came from.
export const about = async () => (await fetch("info")).json();

export async function ask(inputs) {
  const sent = { method: "POST", body: JSON.stringify({ inputs }), headers: { "Content-Type": "application/json" } };
  const isText = typeof inputs[0] === "string", body = new FormData();
  if (!isText) inputs.forEach((file) => body.append("files", file));
  const reply = await fetch(isText ? "predict" : "predict/files", isText ? sent : { method: "POST", body });
  const found = await reply.json();
  if (!reply.ok) throw new Error(found.detail);
  return found.answers;
}
