"use strict";

const found = (id) => document.getElementById(id);
const number = (value) => Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });

let token = ""; // kept nowhere else
let asked = 0; // of the images chosen, the last one counts

// What the service answers, or an error with its words.
async function ask(path, image) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (image) headers["Content-Type"] = image.type.startsWith("image/") ? image.type : "image/*";
  let answer;
  try {
    answer = await fetch(path, { method: image ? "POST" : "GET", headers, body: image });
  } catch {
    throw new Error("The service does not answer. Check that it is running and that this computer is connected.");
  }
  if (answer.ok) return answer;
  const { error } = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
  throw Object.assign(new Error(`${error[0].toUpperCase()}${error.slice(1)}.`), { status: answer.status });
}

function complain(error) {
  found("notice").textContent = error ? error.message : "";
  found("notice").hidden = !error;
}

async function start() {
  complain();
  let about;
  try {
    about = await (await ask("parts")).json();
  } catch (error) {
    const locked = error.status === 401;
    found("entry").hidden = !locked;
    if (locked) found("token").focus();
    if (!locked || token) complain(locked ? new Error("The service does not know this token.") : error);
    return;
  }
  found("entry").hidden = true;
  found("desk").hidden = false;
  found("part").replaceChildren(...about.parts.map(({ name }) => new Option(name)));
  found("choice").hidden = about.parts.length < 2;
  const megapixels = number(about.most_pixels / 1e6);
  found("takes").textContent =
    `PNG, JPEG, BMP, TIFF, WebP, PGM or PPM, up to ${megapixels} megapixels`;
}

async function judge(image) {
  const turn = ++asked;
  const part = encodeURIComponent(found("part").value);
  complain();
  found("result").hidden = true;
  found("figure").hidden = true;
  found("progress").textContent = `Inspecting ${image.name} …`;
  try {
    const verdict = await (await ask(`parts/${part}/inspect`, image)).json();
    if (turn !== asked) return;
    show(verdict, image.name);
    found("progress").textContent = "Drawing the map …";
    const map = await (await ask(`parts/${part}/map`, image)).blob();
    if (turn !== asked) return;
    await draw(map, verdict);
  } catch (error) {
    if (turn === asked) complain(error);
  } finally {
    if (turn === asked) found("progress").textContent = "";
  }
}

function show(verdict, name) {
  const isGood = verdict.verdict === "good";
  found("verdict").textContent = isGood ? "✓ Good" : "✗ Defect";
  found("verdict").className = found("bar").className = verdict.verdict;
  found("meaning").textContent = isGood
    ? "The score is not above the threshold."
    : "The score is above the threshold: the image differs from the good images of this part.";
  const share = verdict.threshold > 0 ? verdict.score / (1.5 * verdict.threshold) : 1;
  found("bar").style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
  const rows = {
    Image: name,
    Part: verdict.part,
    Score: number(verdict.score),
    Threshold: number(verdict.threshold),
    Percentile: `${number(verdict.percentile)} % of good images have this score or a lower one`,
    "False alarms": `${number(100 * verdict.false_alarm_rate)} % ${verdict.rate_basis}`,
    Peak: `row ${verdict.peak.row}, column ${verdict.peak.column}`,
    Time: `${number(verdict.milliseconds)} ms`,
  };
  found("numbers").replaceChildren(
    ...Object.entries(rows).flatMap(([term, value]) =>
      [["dt", term], ["dd", value]].map(([tag, text]) =>
        Object.assign(document.createElement(tag), { textContent: text }))));
  found("result").hidden = false;
  found("verdict").focus({ preventScroll: true });
}

async function draw(map, verdict) {
  const picture = found("map");
  URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(map);
  await picture.decode();
  const { row, column } = verdict.peak;
  picture.classList.toggle("large", picture.naturalWidth > 600);
  picture.alt = `The image with its anomaly map in color, largest at row ${row}, column ${column}`;
  found("caption").textContent =
    "Anomaly map: transparent where the surface is like the good images, yellow where it is not. A red line surrounds areas above the threshold." +
    (verdict.verdict === "good" ? " Any such area here is too small to count: the score is a mean over more of the map." : "");
  found("figure").hidden = false;
}

found("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  token = found("token").value.trim();
  start();
});

found("file").addEventListener("change", ({ target }) => {
  if (target.files.length) judge(target.files[0]);
  target.value = ""; // so that the same file can be chosen again
});

found("part").addEventListener("change", () => {
  found("result").hidden = true; // it was the other part's
  asked += 1;
});

// Anywhere on the page: an image dropped beside the field would else replace the page.
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    found("drop").classList.toggle("over", kind === "dragover");
    const [image] = kind === "drop" ? event.dataTransfer.files : [];
    if (image && !found("desk").hidden) judge(image);
  });
}

start();
