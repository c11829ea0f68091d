// The form: what is asked is shown with its answers, as text and never as HTML.
import { about, ask } from "./ask.mjs";

const $ = (id) => document.getElementById(id);
const made = (name, text, more = {}) => Object.assign(document.createElement(name), { textContent: text, ...more });

function shown({ answer, probabilities }, title) {
  const section = made("section", ""), list = made("ul", "");
  const rows = Object.entries(probabilities).sort((a, b) => b[1] - a[1]).slice(0, 10);
  for (const [name, share] of rows) {
    const item = made("li", ""), meter = made("meter", "", { value: share, ariaLabel: name });
    item.append(meter, ` ${name} ${share.toFixed(3)}`);
    list.append(item);
  }
  section.append(made("div", title), made("strong", answer ?? "Left to a person"), list);
  return section;
}

async function answer(files) {
  const text = $("text").value, isFiles = files.length > 0;
  if (!isFiles && !text) return;
  $("ask").disabled = true;
  try {
    const found = await ask(isFiles ? [...files] : [text]);
    $("answers").replaceChildren(...found.map((one, at) => shown(one, isFiles ? files[at].name : text.slice(0, 200))));
  } catch (error) {
    $("answers").replaceChildren(made("p", error.message, { className: "bad" }));
  }
  $("ask").disabled = false;
}

$("form").addEventListener("submit", (event) => { event.preventDefault(); answer($("files").files); });
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => { event.preventDefault(); answer(event.dataTransfer.files); });
try {
  const told = await about();
  $("texts").hidden = told.modality !== "text";
  $("about").textContent = `It tells ${told.classes.length} classes of ${told.modality}s apart.`;
  $("form").hidden = $("ask").disabled = false;
} catch (error) { $("about").textContent = error.message; }
