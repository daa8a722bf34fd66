"use strict";
var dashboard = (() => {
  var __defProp = Object.defineProperty;
  var __getOwnPropDesc = Object.getOwnPropertyDescriptor;
  var __getOwnPropNames = Object.getOwnPropertyNames;
  var __hasOwnProp = Object.prototype.hasOwnProperty;
  var __export = (target, all) => {
    for (var name in all)
      __defProp(target, name, { get: all[name], enumerable: true });
  };
  var __copyProps = (to, from, except, desc) => {
    if (from && typeof from === "object" || typeof from === "function") {
      for (let key of __getOwnPropNames(from))
        if (!__hasOwnProp.call(to, key) && key !== except)
          __defProp(to, key, { get: () => from[key], enumerable: !(desc = __getOwnPropDesc(from, key)) || desc.enumerable });
    }
    return to;
  };
  var __toCommonJS = (mod) => __copyProps(__defProp({}, "__esModule", { value: true }), mod);

  // sae/dashboards/app/src/main.ts
  var main_exports = {};
  __export(main_exports, {
    mount: () => mount,
    put: () => put
  });

  // sae/dashboards/app/src/dom.ts
  var SVG = "http://www.w3.org/2000/svg";
  function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value != null) element.setAttribute(name, String(value));
    }
    append(element, children);
    return element;
  }
  function append(parent, children) {
    for (const child of children) {
      if (Array.isArray(child)) append(parent, child);
      else if (child instanceof Node) parent.appendChild(child);
      else if (child != null && typeof child !== "boolean") parent.appendChild(document.createTextNode(String(child)));
    }
  }
  function h(tag, attributes = {}, ...children) {
    return fill(document.createElement(tag), attributes, children);
  }
  function s(tag, attributes = {}, ...children) {
    return fill(document.createElementNS(SVG, tag), attributes, children);
  }
  function replace(parent, ...children) {
    parent.replaceChildren();
    append(parent, children);
  }
  function eachFrame(action) {
    let waiting2 = false;
    return () => {
      if (waiting2) return;
      waiting2 = true;
      requestAnimationFrame(() => {
        waiting2 = false;
        action();
      });
    };
  }

  // sae/dashboards/app/src/visible.ts
  var LONGEST = 120;
  var NAMES = {
    10: "\u21B5",
    13: "CR",
    9: "\u21E5",
    173: "SHY",
    1564: "ALM",
    6158: "MVS",
    8203: "ZWSP",
    8204: "ZWNJ",
    8205: "ZWJ",
    8206: "LRM",
    8207: "RLM",
    8232: "LS",
    8233: "PS",
    8234: "LRE",
    8235: "RLE",
    8236: "PDF",
    8237: "LRO",
    8238: "RLO",
    8288: "WJ",
    8294: "LRI",
    8295: "RLI",
    8296: "FSI",
    8297: "PDI",
    65279: "BOM"
  };
  var UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Cn}]/u;
  function sign(character) {
    const code = character.codePointAt(0) ?? 0;
    if (code in NAMES) return NAMES[code];
    if (code < 256) return `\\x${code.toString(16).padStart(2, "0")}`;
    return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
  }
  function joins(characters, at) {
    const code = characters[at].codePointAt(0);
    return (code === 8205 || code === 8204) && at > 0 && at < characters.length - 1 && !/\s/u.test(characters[at + 1]);
  }
  function pieces(text2, longest = LONGEST) {
    const characters = Array.from(text2.slice(0, longest * 2)).slice(0, longest);
    const found = [];
    const add = (part, isSign) => {
      const last = found.at(-1);
      if (last && !isSign && !last.sign) last.text += part;
      else found.push({ text: part, sign: isSign });
    };
    characters.forEach((character, at) => {
      if (UNSEEN.test(character) && !joins(characters, at)) add(sign(character), true);
      else if (at === 0 && /\p{M}/u.test(character)) add(`\u25CC${character}`, false);
      else add(character, false);
    });
    if (text2.length > longest * 2 || Array.from(text2).length > longest) {
      found.push({ text: `\u2026 ${text2.length.toLocaleString("en")} characters`, sign: true });
    }
    return found;
  }
  function visible(text2, longest = 40) {
    const cut = pieces(text2, longest).map((piece) => piece.text.startsWith("\u2026 ") && piece.sign ? "\u2026" : piece.text);
    return cut.join("");
  }
  function shown(text2, breaks = false, longest = LONGEST) {
    return pieces(text2, longest).map((piece) => {
      if (!piece.sign) return piece.text;
      const mark = h("span", { class: piece.text.length > 1 ? "sign named" : "sign" }, piece.text);
      return breaks && piece.text === "\u21B5" ? [mark, h("span", { class: "break" }, "\n")] : mark;
    });
  }
  var CONTINUED = "\u22EF";
  function running(text2) {
    return text2 === "" ? [h("span", { class: "sign named" }, CONTINUED)] : shown(text2, true);
  }
  function token(text2) {
    return h("bdi", { class: "word" }, text2 === "" ? h("span", { class: "sign named" }, "empty") : shown(text2));
  }

  // sae/dashboards/app/src/address.ts
  function place(words2, size2, what) {
    const number2 = Number(words2);
    if (!/^\d+$/.test(words2) || number2 >= size2) throw new Error(`There is no ${what} \u201C${visible(words2)}\u201D: they are numbered from 0 to ${size2 - 1}.`);
    return number2;
  }

  // sae/dashboards/app/src/store.ts
  var waiting = /* @__PURE__ */ new Map();
  var kept = /* @__PURE__ */ new Map();
  var KEPT_FILES_OF_PAGES = 24;
  function put(key, payload) {
    waiting.get(key)?.take(payload);
    waiting.delete(key);
  }
  async function unpacked(payload) {
    if (typeof payload !== "string") return payload;
    const stream = new Blob([bytes(payload)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }
  function bytes(base64) {
    const text2 = atob(base64);
    const found = new Uint8Array(text2.length);
    for (let i = 0; i < text2.length; i++) found[i] = text2.charCodeAt(i);
    return found;
  }
  function load(key) {
    return new Promise((take, fail) => {
      waiting.set(key, { take, fail });
      const script = document.createElement("script");
      script.src = `data/${key}.js`;
      const ended = (reason) => () => {
        script.remove();
        waiting.get(key)?.fail(new Error(`data/${key}.js ${reason}. Is the folder whole? Build the dashboard again to mend it.`));
        waiting.delete(key);
      };
      script.addEventListener("load", ended("holds something else"));
      script.addEventListener("error", ended("could not be read"));
      document.head.append(script);
    });
  }
  function file(key) {
    let found = kept.get(key);
    if (!found) {
      found = load(key).then((payload) => unpacked(payload));
      found.catch(() => kept.delete(key));
    } else kept.delete(key);
    kept.set(key, found);
    forgetOldPages();
    return found;
  }
  function forgetOldPages() {
    const pages = [...kept.keys()].filter((key) => /^(latents|factors)\//.test(key));
    for (const key of pages.slice(0, -KEPT_FILES_OF_PAGES)) kept.delete(key);
  }
  var manifestFile = () => file("manifest");
  var indexFile = (number2) => file(`index/${number2}`);
  var latentsFile = (number2) => file(`latents/${number2}`);
  var searchFile = (number2) => file(`search/${number2}`);
  var textFile = (number2) => file(`texts/${number2}`);
  var factorsFile = (number2) => file(`factors/${number2}`);
  var wordFile = (number2) => file(`words/${number2}`);
  var pathFile = (number2) => file(`paths/${number2}`);

  // sae/dashboards/app/src/catalogue.ts
  var ARRAYS = { f32: Float32Array, i32: Int32Array, u8: Uint8Array };
  var Catalogue = class {
    constructor(manifest) {
      this.manifest = manifest;
      this.size = manifest.num_latents;
      for (const name of manifest.columns) this.columns.set(name, new Float32Array(this.size).fill(NaN));
    }
    manifest;
    size;
    columns = /* @__PURE__ */ new Map();
    shards = [];
    /** Takes in a shard. */
    add(shard) {
      this.shards[Math.floor(shard.first / this.manifest.index_size)] = shard;
      for (const [name, { type, data }] of Object.entries(shard.columns)) {
        this.columns.get(name)?.set(new ARRAYS[type](bytes(data).buffer), shard.first);
      }
    }
    has(name) {
      return this.columns.has(name);
    }
    /** A whole column. */
    column(name) {
      return this.columns.get(name) ?? new Float32Array(this.size).fill(NaN);
    }
    /** One number; NaN where there is none. */
    value(name, latent2) {
      return this.columns.get(name)?.[latent2] ?? NaN;
    }
    /** The token on which it fires most often. */
    topToken(latent2) {
      const place2 = this.value("top_token", latent2);
      return this.shard(latent2)?.strings[place2] ?? null;
    }
    explanation(latent2) {
      return this.shard(latent2)?.explanations[latent2] ?? null;
    }
    get explained() {
      return this.shards.some((shard) => Object.keys(shard.explanations).length > 0);
    }
    shard(latent2) {
      return this.shards[Math.floor(latent2 / this.manifest.index_size)];
    }
  };
  async function readCatalogue(manifest) {
    const catalogue = new Catalogue(manifest);
    const shards = Math.ceil(manifest.num_latents / manifest.index_size);
    await Promise.all(Array.from({ length: shards }, async (_, number2) => catalogue.add(await indexFile(number2))));
    return catalogue;
  }

  // sae/dashboards/app/src/factor_definitions.ts
  var METHODS = ["lime", "integrated_gradients", "leave_one_out", "leave_one_out_shortlist"];
  var FACTOR_DEFINITIONS = {
    factor: { name: "Factor", means: "Number of the factor in the dictionary, from 0. One dictionary serves all layers." },
    factor_density: { name: "Density", means: "Share of the activation vectors read, those of all layers together, on which the factor is active (above zero)." },
    factor_fired: { name: "Fired on", means: "Number of activation vectors, of all layers, on which the factor is active." },
    factor_max: { name: "Maximum", means: "Largest activation on the text that was read, at any layer." },
    factor_decoder_norm: { name: "Decoder norm", means: "Euclidean length of the factor's row in the dictionary." },
    factor_concentration: { name: "Concentration", means: "Share of the factor's firings, at all layers, that fall on its commonest token." },
    factor_entropy: { name: "Entropy", means: "Entropy, in bits, of the distribution of its firings over tokens: 0 where it fires on one token alone." },
    factor_top_token: { name: "Top token", means: "The token on which the factor fires most often, all layers together." },
    factor_explanation: { name: "Explanation", means: "Words for what the factor fires on, where there are any." },
    factor_cosine: { name: "Cosine", means: "Cosine of the angle between the two factors' rows in the dictionary." },
    factor_dead: { name: "Dead", means: "Factors that are active on none of the vectors read here, at no layer." },
    factor_ultra_low: { name: "Ultra-low", means: "Factors that are active, but on a smaller share of the vectors read than this." },
    factor_token_count: { name: "Count", means: "Firings of the factor on this token, at this layer." },
    factor_token_share: { name: "Share", means: "Share of the factor's firings at this layer that fall on this token." },
    factor_token_mean: { name: "Mean there", means: "Mean activation of the factor where it fires on this token, at this layer." },
    factor_activation: { name: "Activation", means: "The factor's coefficient in the code of this token's activation vector, at this layer." },
    factor_logit_weight: {
      name: "Logit weight",
      means: "The factor's row in the dictionary times the unembedding, with the final norm's weights: what one unit of activation adds to the token's logit directly, were it written into the last layer, divided by a length that the final norm measures at each place."
    },
    level: { name: "Level", means: "Low, middle or high: where in the network the factor emerges, read off its importance over layers. A factor's page states the rule." },
    peak_layer: { name: "Peak layer", means: "The layer at which the factor's importance is largest." },
    importance: {
      name: "Importance",
      means: "Mean of the factor's strongest activations at a layer; of all where there are fewer, zeros included. In the table of factors: at its peak layer. How many activations these are stands in the head of the index."
    },
    layers: { name: "Layers", means: "Layers whose activation vectors the one dictionary was fitted to." },
    vectors: { name: "Vectors read", means: "Activation vectors that the factors were read on: one for each token and layer, special tokens left out." },
    method: { name: "Method", means: "How codes were found: sparse coding, or the encoder of a sparse autoencoder." },
    layer_rows: { name: "Vectors", means: "Activation vectors of this layer that factors were read on." },
    layer_l0: { name: "L0", means: "Factors active on a vector of this layer, on average." },
    layer_fvu: { name: "FVU", means: "Fraction of variance unexplained on this layer's vectors: squared error of the reconstruction over their variance." },
    layer_fired: { name: "Fired on", means: "Vectors of this layer on which the factor is active." },
    layer_share: { name: "Share", means: "Share of this layer's vectors on which the factor is active." },
    layer_max: { name: "Maximum", means: "The factor's largest activation at this layer." },
    lime: { name: "LIME", means: "Weights of a linear fit to what the factor's activation at the marked token becomes when random sets of tokens are masked. Positive: the token makes the factor fire." },
    integrated_gradients: {
      name: "Integrated gradients",
      means: "Gradient of the activation at the marked token, added up on the straight line from the embeddings of mask tokens to those of the text. The weights of a whole block sum to the difference of the activations at the line's ends."
    },
    leave_one_out: { name: "Leave one out", means: "How far the activation at the marked token falls when this token alone is replaced by the mask token. Positive: the token makes the factor fire." },
    leave_one_out_shortlist: {
      name: "Leave one out (shortlist)",
      means: "How far the activation at the marked token falls when this token alone is replaced by the mask token, as by leave one out; but the codes without a token are looked for among some 64 factors only: those active with all tokens, and those that fit the texts without one or another best. Quick, and nearly the same; how nearly stands in the index, under About this dashboard. Positive: the token makes the factor fire."
    },
    agreement_contexts: { name: "Contexts", means: "Contexts for which both ways were used." },
    agreement_correlation: { name: "Rank correlation", means: "Spearman's correlation of the two ways' weights over a context's tokens, mean over contexts." },
    agreement_same_top: { name: "Same top token", means: "Share of contexts in which both ways find the same token most salient, the one that fires left out." },
    occurrences: { name: "Occurrences", means: "Places where the word stands in the text that was read. Of many, a sample drawn with a fixed seed is shown." },
    groups: { name: "Groups", means: "Sets of occurrences whose last token uses the same factors at a layer." },
    sense_difference: { name: "Difference", means: "The factor's mean activation in this group less its mean in the word's other occurrences, at this layer. The factors with the largest set the group apart." }
  };

  // sae/dashboards/app/src/definitions.ts
  var DEFINITIONS = {
    ...FACTOR_DEFINITIONS,
    latent: { name: "Latent", means: "Number of the latent in the dictionary, from 0." },
    density: { name: "Density", means: "Share of the tokens read on which the latent is active (above zero)." },
    fired: { name: "Fired on", means: "Number of tokens on which the latent is active." },
    max: { name: "Maximum", means: "Largest activation on the text that was read." },
    mean: { name: "Mean", means: "Mean of the activations above zero." },
    std: { name: "Standard deviation", means: "Standard deviation of the activations above zero." },
    skewness: { name: "Skewness", means: "Third standardised moment of the activations above zero: positive where the tail is to the right." },
    kurtosis: { name: "Kurtosis", means: "Fourth standardised moment of the activations above zero; 3 for a normal distribution." },
    decoder_norm: { name: "Decoder norm", means: "Euclidean length of the latent's decoder row." },
    concentration: { name: "Concentration", means: "Share of the latent's firings that fall on its commonest token." },
    entropy: { name: "Entropy", means: "Entropy, in bits, of the distribution of its firings over tokens: 0 where it fires on one token alone." },
    effect: {
      name: "Effect",
      means: "Largest effect on the loss, in nats, of removing the latent at one token, whatever its sign. Exact for the latents with the largest estimates: the latent was removed there and the model run again. For the others, after \u2248, the largest estimate to first order by the gradient. Large estimates are poor, above all on a document's first tokens, whose activations are huge: sorting therefore puts exact effects first."
    },
    exact_effects: {
      name: "Exact effects",
      means: "Firings at which a latent was removed and the model run again. Agreement is the rank correlation of the sizes of these effects and of their estimates to first order: 1 where both have the same order, 0 where estimates say nothing of it."
    },
    score: { name: "Score", means: "Best score among the latent's explanations: how well the words predict its activations." },
    top_token: { name: "Top token", means: "The token on which the latent fires most often." },
    explanation: { name: "Explanation", means: "Words for what the latent fires on, where there are any." },
    cosine: { name: "Cosine", means: "Cosine of the angle between the two latents' decoder rows." },
    jaccard: { name: "Jaccard", means: "Tokens on which both latents are active over tokens on which either is." },
    neuron_weight: { name: "Weight", means: "Component of the decoder row along this dimension of the activation space." },
    neuron_share: { name: "Share", means: "Size of that component over the sum of the sizes of all components of the row." },
    logit_weight: {
      name: "Logit weight",
      means: "Decoder row times the unembedding, with the final norm's weights. One unit of activation adds this to the token's logit directly, later layers left out, divided by a length that the final norm measures at each place, the same for all tokens there."
    },
    token_share: { name: "Share", means: "Share of the latent's firings that fall on this token." },
    token_mean: { name: "Mean there", means: "Mean activation of the latent where it fires on this token." },
    activation: { name: "Activation", means: "The latent's value on this token." },
    quantile: {
      name: "Quantile",
      means: "Share of the latent's firings on the dashboard's text that are weaker than this one."
    },
    loss_effect: {
      name: "Loss effect",
      means: "What the summed loss of all later predictions gains, in nats, when the latent is removed at this token; to first order. Positive: the latent helps to predict."
    },
    logit_effect: {
      name: "Logit effect",
      means: "What the latent writes here, by the logit weights of the token that comes next; the final norm's division is left out."
    },
    token_count: { name: "Count", means: "Firings of the latent on this token." },
    dead: { name: "Dead", means: "Latents that are active on none of the tokens read here. In training another text counts: see the run's page." },
    ultra_low: { name: "Ultra-low", means: "Latents that are active, but on a smaller share of the tokens read than this." },
    rows: { name: "Tokens read", means: "Tokens on which the latents were read: all of the text but special tokens." },
    documents: { name: "Documents", means: "Documents that the text consists of." },
    blocks: { name: "Blocks of text", means: "Pieces in which the model reads the text, and the tokens that fit into one." },
    d_in: { name: "d_in", means: "Dimensions of the activations that the SAE reads." },
    d_sae: { name: "d_sae", means: "Latents of the SAE." },
    l0: { name: "L0", means: "Latents active on a token, on average, on the text of the SAE's evaluation." },
    fvu: { name: "FVU", means: "Fraction of variance unexplained: squared error of the reconstruction over the variance of the activations, in the SAE's evaluation." },
    dead_fraction: { name: "Dead in training", means: "Share of latents that were active on none of the last tokens of training." },
    ce_increase: { name: "Cross-entropy increase", means: "What predicting the next token loses, in nats a token, with the reconstruction in the activation's place." },
    tokens_trained: { name: "Tokens trained", means: "Tokens that the SAE was trained on, repeated ones counted again." },
    loss: { name: "Loss", means: "Nats, of predicting this token from those before it." }
  };
  function defined(key) {
    return Object.hasOwn(DEFINITIONS, key);
  }
  function termOf(noun2, key) {
    const own = `factor_${key}`;
    return noun2 === "factor" && defined(own) ? own : key;
  }
  function term(key, label = DEFINITIONS[key].name) {
    return h("button", { type: "button", class: "term", "data-term": key, "aria-describedby": `means-${key}` }, label);
  }
  function glossary() {
    const entries = Object.entries(DEFINITIONS).map(([key, { means }]) => h("span", { id: `means-${key}` }, means));
    return h("div", { hidden: true }, entries);
  }

  // sae/dashboards/app/src/numbers.ts
  var MISSING = "\u2013";
  function missing(value) {
    return value == null || Number.isNaN(value);
  }
  function short(value) {
    if (missing(value)) return MISSING;
    if (value === 0) return "0";
    const size2 = Math.abs(value);
    if (size2 >= 1e-3 && size2 < 1e5) return minus(String(Number(value.toPrecision(size2 >= 1e3 ? 5 : 3))));
    return minus(value.toExponential(1).replace(".0e", "e").replace("e+", "e"));
  }
  function signed(value) {
    return missing(value) || value <= 0 ? short(value) : `+${short(value)}`;
  }
  function percent(share) {
    return missing(share) ? MISSING : `${short(share * 100)} %`;
  }
  function whole(value) {
    return missing(value) ? MISSING : value.toLocaleString("en");
  }
  function minus(digits) {
    return digits.replace("-", "\u2212").replace("e-", "e\u2212");
  }

  // sae/dashboards/app/src/tip.ts
  var contents = /* @__PURE__ */ new WeakMap();
  var HIDE_AFTER_MS = 120;
  var box = null;
  var owner = null;
  var hiding = 0;
  function tip(element, content) {
    contents.set(element, content);
    element.setAttribute("data-tip", "");
  }
  function explained(element, words2) {
    tip(element, () => [words2]);
    return element;
  }
  function ownerOf(target) {
    return target instanceof Element ? target.closest("[data-tip], [data-term]") : null;
  }
  function contentOf(element) {
    const key = element.dataset["term"];
    const own = contents.get(element)?.() ?? [];
    return key ? [h("b", {}, DEFINITIONS[key].name), h("p", {}, DEFINITIONS[key].means), ...own] : own;
  }
  function showAt(left, top, bottom, content) {
    if (!box) return;
    clearTimeout(hiding);
    replace(box, ...content);
    box.hidden = false;
    const size2 = box.getBoundingClientRect();
    const view = document.documentElement;
    const x = Math.max(8, Math.min(left, view.clientWidth - size2.width - 8));
    const fits = bottom + 6 + size2.height < view.clientHeight;
    box.style.left = `${x}px`;
    box.style.top = `${fits ? bottom + 6 : Math.max(8, top - size2.height - 6)}px`;
  }
  function show(element) {
    const content = contentOf(element);
    if (!content.length) return;
    const place2 = element.getClientRects()[0] ?? element.getBoundingClientRect();
    showAt(place2.left, place2.top, place2.bottom, content);
    if (owner !== element) release();
    owner = element;
    if (!element.hasAttribute("aria-describedby")) element.setAttribute("aria-describedby", "tip");
  }
  function release() {
    if (owner?.getAttribute("aria-describedby") === "tip") owner.removeAttribute("aria-describedby");
    owner = null;
  }
  function hideTip() {
    if (!box) return;
    box.hidden = true;
    release();
  }
  function pointerLeft() {
    if (owner && owner !== document.activeElement) hideSoon();
  }
  function hideSoon() {
    clearTimeout(hiding);
    hiding = window.setTimeout(hideTip, HIDE_AFTER_MS);
  }
  function startTips(root2) {
    box = h("div", { id: "tip", role: "tooltip", hidden: true });
    (root2.querySelector("main") ?? root2).append(box);
    root2.addEventListener("pointerover", (event) => {
      if (box?.contains(event.target)) return clearTimeout(hiding);
      const element = ownerOf(event.target);
      if (element) show(element);
      else pointerLeft();
    });
    root2.addEventListener("pointerleave", pointerLeft);
    root2.addEventListener("focusin", (event) => {
      const element = ownerOf(event.target);
      if (element) show(element);
      else hideTip();
    });
    root2.addEventListener("focusout", hideSoon);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && box && !box.hidden) hideTip();
    });
    document.addEventListener("scroll", () => {
      if (owner && owner === document.activeElement) show(owner);
      else if (owner) hideTip();
    }, { capture: true, passive: true });
  }

  // sae/dashboards/app/src/effects.ts
  function effectWords(catalogue, latent2) {
    const nats = catalogue.value("effect", latent2);
    return Number.isNaN(nats) || isExact(catalogue, latent2) ? short(nats) : `\u2248 ${short(nats)}`;
  }
  function isExact(catalogue, latent2) {
    return catalogue.value("effect_exact", latent2) === 1;
  }
  function effectCell(catalogue, latent2) {
    const words2 = h("span", {}, effectWords(catalogue, latent2));
    tip(words2, () => [isExact(catalogue, latent2) ? "Exact: the latent was removed, and the model run again." : "The largest estimate to first order; exact effects may differ much."]);
    return words2;
  }
  function effectTerm(manifest) {
    const name = term("effect");
    const found = manifest?.exact_effects;
    if (found && found.agreement !== null) {
      const { firings, agreement } = found;
      tip(name, () => [h("p", {}, `Here ${whole(firings)} firings were measured: their sizes and those of their estimates have a rank correlation of ${short(agreement)}.`)]);
    }
    return name;
  }

  // sae/dashboards/app/src/layers.ts
  var LAYER_SHADES = 9;
  var LEVELS = ["low", "middle", "high"];
  function levelWord(level) {
    return LEVELS[level] ?? "\u2013";
  }
  function layerLabels(layers) {
    const numbers3 = layers.flatMap(({ number: number2 }) => number2 === null ? [] : [number2]);
    const apart = new Set(numbers3).size === numbers3.length;
    return layers.map(({ name, number: number2 }) => apart && number2 !== null ? String(number2) : name);
  }
  function layerShade(layer, of) {
    return 1 + Math.round(layer * (LAYER_SHADES - 1) / Math.max(1, of - 1));
  }

  // sae/dashboards/app/src/context.ts
  function factorsInfo(context) {
    return context.manifest?.factors ?? null;
  }
  function noun(context) {
    return factorsInfo(context) ? "factor" : "latent";
  }
  function latentLink(context, latent2, more = "") {
    if (context.base === null) return h("span", {}, latent2);
    const href = `${context.base}#/${noun(context)}/${latent2}${more}`;
    const link = h("a", { href, target: context.base ? "_blank" : null, rel: context.base ? "noopener" : null }, latent2);
    const { catalogue } = context;
    if (catalogue) tip(link, () => summary(context, catalogue, latent2));
    return link;
  }
  function summary(context, catalogue, latent2) {
    const top = catalogue.topToken(latent2);
    const explanation = catalogue.explanation(latent2);
    const info = factorsInfo(context);
    const lines = [h("b", {}, `${info ? "Factor" : "Latent"} ${latent2}`), h("p", {}, `Active on ${percent(catalogue.value("density", latent2))} of ${info ? "vectors" : "tokens"}`)];
    if (catalogue.has("effect")) lines.push(h("p", {}, `Effect on the loss up to ${effectWords(catalogue, latent2)} nats`));
    const layer = info?.layers[catalogue.value("peak_layer", latent2)];
    if (layer) lines.push(h("p", {}, `Level ${levelWord(catalogue.value("level", latent2))}, strongest at ${layer.name}`));
    if (top) lines.push(h("p", {}, "Most often on ", token(top.text)));
    if (explanation) lines.push(h("p", {}, h("bdi", {}, explanation)));
    return lines;
  }

  // sae/dashboards/app/src/keys.ts
  var LIST = [
    ["j, \u2192 or \u2193", "next latent or factor; in the index: next row"],
    ["k, \u2190 or \u2191", "previous latent or factor; in the index: previous row"],
    ["Enter", "open the row, point or link that the keyboard is on"],
    ["/", "search by token"],
    ["g", "go to a number"],
    ["[ and ]", "layer before and layer after, on pages of factors"],
    ["i", "to the index"],
    ["\u2190 \u2192 inside a text", "from token to token, with what is known of each"],
    ["\u2190 \u2192 \u2191 \u2193 on the map", "from point to point; + and - zoom, 0 shows all"],
    ["\u2190 \u2192 on a chart", "from bar to bar, from layer to layer"],
    ["Escape", "close a box"],
    ["?", "this list"]
  ];
  function helpBox() {
    const close = h("button", { type: "button", class: "main", onclick: () => dialog.close() }, "Close");
    const dialog = h(
      "dialog",
      { "aria-labelledby": "help-title" },
      h("h2", { id: "help-title" }, "Keys"),
      h("dl", { class: "keys" }, LIST.map(([key, means]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, means)])),
      h("p", {}, "Names of numbers that are underlined with dots say what they mean when pointed at or focused."),
      close
    );
    return dialog;
  }
  function listen(keys, help) {
    document.addEventListener("keydown", (event) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || help.open) return;
      if (event.target instanceof Element && event.target.closest("input, textarea, select, [contenteditable]")) return;
      const scrolls = event.target instanceof Element && event.target.matches(".scroll, .tokens");
      const by = { j: 1, k: -1, ArrowRight: 1, ArrowLeft: -1 }[event.key] ?? tableArrow(event);
      if (by && !scrolls) keys.step(by);
      else if (event.key === "[" || event.key === "]") keys.layer(event.key === "[" ? -1 : 1);
      else if (event.key === "/") keys.search();
      else if (event.key === "g") keys.goTo();
      else if (event.key === "i") keys.index();
      else if (event.key === "?") help.showModal();
      else return;
      event.preventDefault();
    });
  }
  function tableArrow(event) {
    const inTable = event.target instanceof Element && event.target.closest(".table-scroll");
    return inTable ? { ArrowDown: 1, ArrowUp: -1 }[event.key] : void 0;
  }

  // sae/dashboards/app/src/layer_slider.ts
  function layerSlider(layers, changed) {
    const swatch = h("span", { class: "swatch l1", "aria-hidden": "true" });
    const name = h("output", { for: "layer" });
    const input = h("input", { type: "range", id: "layer", min: 0, max: layers.length - 1, step: 1, "aria-keyshortcuts": "[ ]", oninput: () => {
      show2(Number(input.value));
      changed(Number(input.value));
    } });
    function show2(layer) {
      input.value = String(layer);
      const words2 = layers[layer]?.name ?? "";
      input.setAttribute("aria-valuetext", words2);
      name.textContent = `${words2}, ${layer + 1} of ${layers.length}`;
      swatch.className = `swatch l${layerShade(layer, layers.length)}`;
    }
    return { element: h("div", { class: "layer-slider" }, h("label", { for: "layer" }, "Layer"), input, swatch, name), show: show2 };
  }
  function stepLayer(page, by) {
    const input = page.querySelector("#layer");
    if (!input) return;
    input.value = String(Number(input.value) + by);
    input.dispatchEvent(new Event("input"));
  }

  // sae/dashboards/app/src/live.ts
  async function ask(name, body) {
    const response = await fetch(`api/${name}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body)
    });
    if (response.ok) return await response.json();
    const words2 = await response.text();
    let reason = words2.slice(0, 500) || response.statusText;
    try {
      reason = JSON.parse(words2).error ?? reason;
    } catch {
    }
    throw new Error(reason);
  }
  var Live = class {
    constructor(hello) {
      this.hello = hello;
    }
    hello;
    text(request) {
      return ask("text", request);
    }
    steer(request) {
      return ask("steer", request);
    }
    async ablate(request) {
      return (await ask("ablate", request)).effects;
    }
    word(request) {
      return ask("word", request);
    }
    path(request) {
      return ask("path", request);
    }
    saliency(request) {
      return ask("saliency", request);
    }
  };
  async function findLive() {
    if (!location.protocol.startsWith("http")) return null;
    try {
      const response = await fetch("api/hello");
      return response.ok ? new Live(await response.json()) : null;
    } catch {
      return null;
    }
  }

  // sae/dashboards/app/src/look.ts
  var LOOKS = ["system", "light", "dark"];
  var KEPT_AS = "sae-dashboard-look";
  function kept2() {
    try {
      const look2 = localStorage.getItem(KEPT_AS);
      return look2 && LOOKS.includes(look2) ? look2 : "system";
    } catch {
      return "system";
    }
  }
  function setLook(element, look2) {
    element.dataset["look"] = look2;
    document.dispatchEvent(new Event("themechange"));
  }
  function lookButton(root2) {
    let look2 = kept2();
    const button = h("button", { type: "button", class: "quiet-button" });
    const show2 = () => {
      setLook(root2, look2);
      button.textContent = { system: "\u25D0", light: "\u25CB", dark: "\u25CF" }[look2];
      button.setAttribute("aria-label", `Colours: ${look2}. Change.`);
      button.title = `Colours: ${look2}`;
    };
    button.addEventListener("click", () => {
      look2 = LOOKS[(LOOKS.indexOf(look2) + 1) % LOOKS.length];
      try {
        localStorage.setItem(KEPT_AS, look2);
      } catch {
      }
      show2();
    });
    show2();
    return button;
  }

  // sae/dashboards/app/src/axes.ts
  var PIXELS_PER_TICK = 45;
  function axis(low, high, start, end, ticks, log) {
    const to = log ? Math.log10 : (v) => v;
    const from = log ? (v) => 10 ** v : (v) => v;
    const [a, b] = [to(low), to(high)];
    return {
      low,
      high,
      ticks,
      at: (value) => start + (to(value) - a) / (b - a) * (end - start),
      of: (pixel2) => from(a + (pixel2 - start) / (end - start) * (b - a))
    };
  }
  function linearAxis(low, high, start, end, count = 5) {
    if (!(high > low)) [low, high] = [low - 0.5, low + 0.5];
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step2 = power * ([1, 2, 5, 10].find((factor2) => factor2 * power >= rough) ?? 10);
    const ticks = [];
    for (let i = Math.ceil(low / step2 - 1e-9); i * step2 <= high + step2 * 1e-9; i++) ticks.push(Number((i * step2).toPrecision(12)));
    return axis(low, high, start, end, ticks, false);
  }
  function logAxis(low, high, start, end) {
    if (!(high > low)) [low, high] = [low / 2, low * 2];
    const [first, last] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
    const every = Math.ceil((last - first + 1) / Math.max(2, Math.abs(end - start) / PIXELS_PER_TICK)) || 1;
    const ticks = [];
    for (let power = first; power <= last; power += every) ticks.push(10 ** power);
    return axis(low, high, start, end, ticks.length ? ticks : [low, high], true);
  }

  // sae/dashboards/app/src/save.ts
  var KEPT = [
    "fill",
    "stroke",
    "stroke-width",
    "stroke-dasharray",
    "opacity",
    "fill-opacity",
    "font-family",
    "font-size",
    "font-weight",
    "text-anchor",
    "visibility"
  ];
  function withStyle(from, to) {
    const style = getComputedStyle(from);
    for (const name of KEPT) to.setAttribute(name, style.getPropertyValue(name));
    to.removeAttribute("class");
    [...from.children].forEach((child, i) => withStyle(child, to.children[i]));
  }
  function standalone(chart, title) {
    const copy = chart.cloneNode(true);
    withStyle(chart, copy);
    for (const control of copy.querySelectorAll("[data-control]")) control.remove();
    const { width, height } = chart.viewBox.baseVal;
    for (const name of ["tabindex", "role", "aria-label", "visibility"]) copy.removeAttribute(name);
    copy.setAttribute("width", String(width));
    copy.setAttribute("height", String(height));
    const ground = getComputedStyle(chart.closest("figure") ?? document.body).backgroundColor;
    copy.prepend(s("title", {}, title), s("rect", { width, height, fill: ground }));
    return new XMLSerializer().serializeToString(copy);
  }
  function download(name, text2) {
    const address = URL.createObjectURL(new Blob([text2], { type: "image/svg+xml" }));
    h("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1e3);
  }
  function saveButton(chart, title) {
    const name = `${title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "")}.svg`;
    return h(
      "button",
      { type: "button", class: "small", "aria-label": `Save as SVG: ${title}`, onclick: () => download(name, standalone(chart(), title)) },
      "SVG"
    );
  }

  // sae/dashboards/app/src/chart.ts
  var FIRST_WIDTH = 400;
  function fitted(chart, draw) {
    let width = FIRST_WIDTH;
    new ResizeObserver(() => {
      if (!chart.clientWidth || chart.clientWidth === width) return;
      width = chart.clientWidth;
      draw(width);
    }).observe(chart);
    draw(width);
  }
  function chartFigure(title, heading2, chart, readout, heads, rows) {
    return h(
      "figure",
      { class: "chart" },
      h("figcaption", {}, h("span", {}, heading2), h("span", { class: "tools" }, saveButton(() => chart, title))),
      chart,
      readout,
      h("details", {}, h("summary", {}, "As a table"), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${title}, as a table` }, h(
        "table",
        { class: "numbers-table" },
        h("thead", {}, h("tr", {}, heads.map((head, i) => h("th", { scope: "col", class: i ? "number" : null }, head)))),
        h("tbody", {}, rows.map(([first, ...others]) => h("tr", {}, h("th", { scope: "row" }, first), others.map((cell) => h("td", { class: "number" }, cell)))))
      )))
    );
  }
  var pixel = (value) => Math.round(value * 10) / 10;

  // sae/dashboards/app/src/layer_axis.ts
  var CHARACTER_PIXELS = 6.5;
  var BETWEEN_PIXELS = 10;
  var LayerAxis = class {
    constructor(layers) {
      this.layers = layers;
      this.labels = layerLabels(layers);
    }
    layers;
    labels;
    left = 0;
    right = 0;
    width = 0;
    /** Lays the layers from one pixel to another, in a chart of this width. */
    lay(left, right, width) {
      [this.left, this.right, this.width] = [left, right, width];
    }
    /** Pixels from a layer to the next. */
    get step() {
      return (this.right - this.left) / Math.max(1, this.layers.length - 1);
    }
    /** Pixel of a layer. */
    x(layer) {
      return this.layers.length > 1 ? this.left + layer * this.step : (this.left + this.right) / 2;
    }
    /** Labels with their upper edge at `top`. */
    draw(top, chosen) {
      const size2 = (layer) => this.labels[layer].length * CHARACTER_PIXELS;
      const spans = [];
      const order = [...this.labels.keys()].sort((a, b) => Number(b === chosen) - Number(a === chosen) || a - b);
      const texts = order.map((layer) => {
        const middle = Math.min(Math.max(this.x(layer), size2(layer) / 2), this.width - size2(layer) / 2);
        const span = [middle - size2(layer) / 2 - BETWEEN_PIXELS, middle + size2(layer) / 2];
        if (spans.some(([from, to]) => from < span[1] && span[0] < to)) return null;
        spans.push(span);
        return s("text", { class: layer === chosen ? "axis strong" : "axis", x: pixel(middle), y: top + 12, "text-anchor": "middle" }, this.labels[layer]);
      });
      return [texts, s("text", { class: "axis", x: pixel((this.left + this.right) / 2), y: top + 27, "text-anchor": "middle" }, "layer")];
    }
  };

  // sae/dashboards/app/src/curve.ts
  var [LEFT, RIGHT, TOP, HEIGHT] = [46, 20, 14, 210];
  var BOTTOM = HEIGHT - 36;
  var INSIDE = 14;
  function importanceCurve(info, record, choose) {
    const { layers } = info;
    const axis2 = new LayerAxis(layers);
    const values = record.layers.map(({ importance }) => importance ?? 0);
    const last = layers.length - 1;
    let width = 0;
    let chosen = 0;
    let at = -1;
    const title = `Importance of factor ${record.factor} over the layers`;
    const chart = s("svg", {
      class: "curve",
      role: "img",
      tabindex: 0,
      height: HEIGHT,
      "aria-label": `${title}: ${layers.map(({ name }, i) => `${name} ${short(record.layers[i]?.importance)}`).join(", ")}. Arrow keys read the layers, Enter chooses one.`
    });
    const readout = h("output", { "aria-live": "polite" }, "\xA0");
    function draw() {
      const y = linearAxis(0, Math.max(1e-12, ...values) * 1.08, BOTTOM, TOP, 4);
      const line = values.map((value, i) => `${i ? "L" : "M"}${pixel(axis2.x(i))} ${pixel(y.at(value))}`).join("");
      chart.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
      replace(
        chart,
        y.ticks.map((tick) => [
          s("path", { class: "grid", d: `M${LEFT} ${pixel(y.at(tick))}H${width - RIGHT}` }),
          s("text", { class: "axis", x: LEFT - 6, y: pixel(y.at(tick) + 4), "text-anchor": "end" }, short(tick))
        ]),
        s("path", { class: "base", d: `M${LEFT} ${BOTTOM}H${width - RIGHT}` }),
        s("path", { class: "chosen-layer", d: `M${pixel(axis2.x(chosen))} ${TOP}V${BOTTOM}` }),
        s("path", { class: "curve-line", d: line }),
        values.map((value, i) => s("circle", {
          class: `curve-point f${layerShade(i, layers.length)}${record.layers[i]?.importance == null ? " none" : ""}`,
          cx: pixel(axis2.x(i)),
          cy: pixel(y.at(value)),
          r: i === chosen ? 7 : 4.5
        })),
        axis2.draw(BOTTOM + 4, chosen),
        at >= 0 && s("rect", { class: "pointed", "data-control": true, x: pixel(axis2.x(at) - 12), y: TOP, width: 24, height: BOTTOM - TOP })
      );
    }
    function read(layer) {
      at = Math.min(Math.max(layer, 0), last);
      const one = record.layers[at];
      readout.textContent = one?.importance == null ? `${layers[at].name}: never active here` : `${layers[at].name}: importance ${short(one.importance)}, maximum ${short(one.max)}, active on ${whole(one.fired)} vectors`;
      draw();
    }
    function leave() {
      at = -1;
      readout.textContent = "\xA0";
      draw();
    }
    function under(event) {
      const box2 = chart.getBoundingClientRect();
      const place2 = (event.clientX - box2.left) / box2.width * width;
      return layers.reduce((best, _, i) => Math.abs(axis2.x(i) - place2) < Math.abs(axis2.x(best) - place2) ? i : best, 0);
    }
    chart.addEventListener("pointermove", (event) => read(under(event)));
    chart.addEventListener("pointerleave", leave);
    chart.addEventListener("blur", leave);
    chart.addEventListener("pointerup", (event) => choose(under(event)));
    chart.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const step2 = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step2) read(at < 0 ? chosen : at + step2);
      else if (event.key === "Enter" && at >= 0) choose(at);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    fitted(chart, (now) => {
      width = now;
      axis2.lay(LEFT + INSIDE, width - RIGHT - INSIDE, width);
      draw();
    });
    const heads = ["Layer", term("importance"), term("layer_max"), term("layer_fired"), term("layer_share")];
    const rows = record.layers.map(({ importance, max, fired }, i) => [h("bdi", {}, layers[i].name), short(importance), short(max), whole(fired), percent(fired / layers[i].rows)]);
    const heading2 = [term("importance", "Importance"), h("small", {}, ` mean of the ${whole(info.importance_top)} strongest activations at each layer`)];
    return {
      element: chartFigure(title, heading2, chart, readout, heads, rows),
      show: (layer) => {
        chosen = layer;
        draw();
      }
    };
  }

  // sae/dashboards/app/src/histogram.ts
  var LEFT2 = 46;
  var TOP2 = 10;
  var RIGHT2 = 14;
  var LOWEST_ON_LOG = 0.7;
  function histogram(options) {
    const { bars, height = 200 } = options;
    const bottom = height - 36;
    const { edges, counts } = bars;
    const [low, high] = [edges[0] ?? 0, edges.at(-1) ?? 1];
    let width = 400;
    let right = width - RIGHT2;
    let x = values();
    const most = Math.max(1, ...counts);
    let part = null;
    let range = null;
    let at = -1;
    const chart = s("svg", {
      role: "img",
      tabindex: 0,
      height,
      "aria-label": `${options.title}: ${whole(counts.reduce((sum, n) => sum + n, 0))} ${options.counted} from ${short(low)} to ${short(high)}. Arrow keys read the bars.`
    });
    const readout = h("output", { "aria-live": "polite" }, "\xA0");
    const log = h("input", { type: "checkbox", onchange: () => draw() });
    function values() {
      return options.logValues ? logAxis(low, high, LEFT2, right) : linearAxis(low, high, LEFT2, right);
    }
    function scale() {
      if (!log.checked) return linearAxis(0, most * 1.04, bottom, TOP2, 4);
      return logAxis(LOWEST_ON_LOG, most * 1.3, bottom, TOP2);
    }
    function bar(y, i, count, kind) {
      if (count <= 0) return null;
      const [from, to] = [x.at(edges[i]), x.at(edges[i + 1])];
      const top = Math.min(y.at(count), bottom - 1);
      const gap = to - from > 4 ? 0.75 : 0;
      return s("rect", { class: kind, x: pixel(from), y: pixel(top), width: pixel(Math.max(to - from - gap, 0.6)), height: pixel(bottom - top) });
    }
    function draw() {
      const y = scale();
      chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
      const zero = !options.logValues && low < 0 && high > 0;
      replace(
        chart,
        y.ticks.map((tick) => [
          s("path", { class: "grid", d: `M${LEFT2} ${pixel(y.at(tick))}H${right}` }),
          s("text", { class: "axis", x: LEFT2 - 6, y: pixel(y.at(tick) + 4), "text-anchor": "end" }, short(tick))
        ]),
        counts.map((count, i) => bar(y, i, count, part ? "bar ground" : "bar")),
        part?.map((count, i) => bar(y, i, count, "bar")),
        zero && s("path", { class: "zero", d: `M${pixel(x.at(0))} ${TOP2}V${bottom}` }),
        s("path", { class: "base", d: `M${LEFT2} ${bottom}H${right}` }),
        x.ticks.map((tick) => s("text", { class: "axis", x: pixel(x.at(tick)), y: bottom + 15, "text-anchor": "middle" }, short(tick))),
        s("text", { class: "axis", x: (LEFT2 + right) / 2, y: height - 5, "text-anchor": "middle" }, options.unit),
        range && brush(range),
        at >= 0 && s("rect", { class: "pointed", "data-control": true, x: pixel(x.at(edges[at])), y: TOP2, width: pixel(x.at(edges[at + 1]) - x.at(edges[at])), height: bottom - TOP2 })
      );
    }
    function brush([from, to]) {
      const [a, b] = [from, to].map((value) => Math.min(Math.max(x.at(Math.min(Math.max(value, low), high)), LEFT2), right));
      return s("rect", { class: "brush", "data-control": true, x: pixel(a), y: TOP2, width: pixel(Math.max(b - a, 1)), height: bottom - TOP2 });
    }
    function read(i) {
      at = Math.min(Math.max(i, 0), counts.length - 1);
      const words2 = `${whole(counts[at] ?? 0)} ${options.counted} between ${short(edges[at])} and ${short(edges[at + 1])}`;
      readout.textContent = part ? `${words2}, ${whole(part[at] ?? 0)} of them in the table` : words2;
      draw();
    }
    function leave() {
      at = -1;
      readout.textContent = "\xA0";
      draw();
    }
    function valueUnder(event) {
      const box2 = chart.getBoundingClientRect();
      const at2 = (event.clientX - box2.left) / box2.width * width;
      return x.of(Math.min(Math.max(at2, LEFT2), right));
    }
    let dragged = null;
    chart.addEventListener("pointermove", (event) => {
      const value = valueUnder(event);
      if (dragged !== null) {
        range = value < dragged ? [value, dragged] : [dragged, value];
        draw();
      } else read(edges.findIndex((_, i) => i + 1 === edges.length || value < edges[i + 1]));
    });
    chart.addEventListener("pointerleave", leave);
    chart.addEventListener("blur", leave);
    chart.addEventListener("keydown", (event) => {
      const step2 = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step2 || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      read(at < 0 && step2 < 0 ? counts.length - 1 : at + step2);
    });
    if (options.brushed) {
      chart.classList.add("brushable");
      chart.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        dragged = valueUnder(event);
        range = null;
        chart.setPointerCapture(event.pointerId);
      });
      chart.addEventListener("pointerup", (event) => {
        if (dragged === null) return;
        const moved = Math.abs(x.at(valueUnder(event)) - x.at(dragged)) > 3;
        dragged = null;
        if (!moved) range = null;
        options.brushed?.(range);
      });
      chart.addEventListener("pointercancel", () => dragged = null);
    }
    fitted(chart, (now) => {
      width = now;
      right = width - RIGHT2;
      x = values();
      draw();
    });
    const element = h(
      "figure",
      { class: "chart" },
      h("figcaption", {}, h("span", {}, options.heading ?? options.title), h("span", { class: "tools" }, h("label", {}, log, " log"), saveButton(() => chart, options.title))),
      chart,
      readout
    );
    return {
      element,
      update: (newPart, newRange) => {
        [part, range] = [newPart, newRange];
        draw();
      }
    };
  }
  function counted(values, edges, place2) {
    const counts = new Array(edges.length - 1).fill(0);
    for (const value of values) {
      const at = Math.min(Math.floor(place2(value)), counts.length - 1);
      if (at >= 0) counts[at] += 1;
    }
    return counts;
  }

  // sae/dashboards/app/src/views/cards.ts
  function walk({ previous, next, words: words2 }, name, address) {
    const link = (number2, label, key) => number2 === null ? h("span", { class: "button off" }, label) : h("a", { class: "button", href: address(number2), "aria-keyshortcuts": key }, label);
    return h("nav", { class: "walk", "aria-label": name }, link(previous, "\u2190 Previous", "k"), h("span", { class: "quiet" }, words2), link(next, "Next \u2192", "j"));
  }
  function numberList(entries) {
    return h("dl", { class: "numbers" }, entries.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  }
  function card(title, heads, rows, heading2 = "h3", note = null) {
    if (!rows.length) return null;
    return h("section", { class: "card" }, h(heading2, {}, title), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title }, h(
      "table",
      {},
      h("thead", {}, h("tr", {}, heads.map((head, i) => h("th", { scope: "col", class: i ? "number" : null }, head)))),
      h("tbody", {}, rows.map(([first, ...others]) => h("tr", {}, h("th", { scope: "row" }, first), others.map((cell) => h("td", { class: "number" }, cell)))))
    )), note && h("p", { class: "note" }, note));
  }
  function tokensCard(entries, strings, [count, share, mean], title = "Tokens it fires on") {
    const rows = entries.map((entry) => [token(strings[entry.token]?.text ?? ""), whole(entry.count), percent(entry.share), short(entry.mean)]);
    return card(title, ["Token", term(count), term(share), term(mean)], rows);
  }
  function logitsCard(weights, strings, of, key) {
    if (!weights) return null;
    const list2 = (title, entries) => h("div", {}, h("h4", {}, title), h("ol", { class: "logits" }, entries.map(([place2, weight]) => h("li", {}, token(strings[place2]?.text ?? ""), h("span", { class: "number" }, signed(weight))))));
    return h(
      "section",
      { class: "card" },
      h("h3", {}, term(key, "Direct effect on logits")),
      h("div", { class: "two" }, list2("Raised most", weights.raised), list2("Lowered most", weights.lowered)),
      histogram({ title: `Logit weights of ${of}`, heading: "All logit weights", bars: weights.histogram, unit: "logit weight", counted: "tokens", height: 170 }).element
    );
  }
  function neighboursCard(context, title, head, measure, entries, write, note = null) {
    const rows = entries.map(({ latent: latent2, value }) => {
      const top = context.catalogue?.topToken(latent2);
      const words2 = context.catalogue?.explanation(latent2);
      return [[latentLink(context, latent2), top && [" ", token(top.text)], words2 && h("small", {}, " ", h("bdi", {}, words2))], write(value)];
    });
    return card(title, [head, term(measure)], rows, "h3", note);
  }

  // sae/dashboards/app/src/scale.ts
  var STEPS = 10;
  var EFFECT_STEPS = 3;
  function step(activation, largest) {
    if (!(activation > 0)) return 0;
    return Math.min(STEPS, Math.max(1, Math.ceil(activation / largest * STEPS)));
  }
  function underline(effect, strong) {
    const thickness = Math.min(EFFECT_STEPS, Math.round(Math.abs(effect) / strong * EFFECT_STEPS));
    return thickness > 0 ? `${effect > 0 ? "raises" : "lowers"} u${thickness}` : "";
  }
  function scaleLegend(largest) {
    const swatches = Array.from({ length: STEPS }, (_, i) => h("span", { class: `swatch a${i + 1}` }));
    return h("span", { class: "scale" }, h("span", {}, "Activation 0"), h("span", { class: "swatches", "aria-hidden": "true" }, swatches), h("span", {}, short(largest)));
  }
  function legend(largest, effects) {
    return h(
      "p",
      { class: "legend" },
      scaleLegend(largest),
      h("span", {}, h("span", { class: "t a5 peak" }, "token"), " chosen for"),
      effects && h("span", {}, h("span", { class: "t raises u2" }, "token"), " removing the latent here raises the loss"),
      effects && h("span", {}, h("span", { class: "t lowers u2" }, "token"), " lowers it")
    );
  }

  // sae/dashboards/app/src/saliency.ts
  var STEPS2 = 5;
  function waysOf(contexts, live) {
    const there = new Set(contexts.flatMap(({ saliency }) => saliency.map(({ method }) => method)));
    return [...METHODS.filter((method) => live && method !== "leave_one_out_shortlist" || there.has(method)), "activation"];
  }
  function weightsBy(context, way) {
    return context.saliency.find(({ method }) => method === way)?.weights ?? null;
  }
  function largestWeight(weights, peak) {
    const others = Math.max(0, ...weights.map((weight, offset) => offset === peak ? 0 : Math.abs(weight)));
    return others || Math.abs(weights[peak] ?? 0);
  }
  function salient(weight, largest) {
    const size2 = Math.min(STEPS2, Math.round(Math.abs(weight) / (largest || 1) * STEPS2));
    return size2 ? `${weight > 0 ? "p" : "n"}${size2}` : "a0";
  }
  function wayLegend(way, largest) {
    const target = h("span", {}, h("span", { class: "t peak target" }, "token"), " on which it fires");
    if (way === "activation") return h("p", { class: "legend" }, h("span", {}, "Coloured by ", term("factor_activation", "activation")), scaleLegend(largest), target);
    const swatches = (letter, steps) => steps.map((step2) => h("span", { class: `swatch ${letter}${step2}` }));
    return h(
      "p",
      { class: "legend" },
      h("span", {}, "Coloured by saliency: ", term(way)),
      h(
        "span",
        { class: "scale" },
        h("span", { class: "n-word" }, "keeps it from firing"),
        h("span", { class: "swatches", "aria-hidden": "true" }, swatches("n", [5, 4, 3, 2, 1]), h("span", { class: "swatch s0" }), swatches("p", [1, 2, 3, 4, 5])),
        h("span", { class: "p-word" }, "makes it fire")
      ),
      target,
      h("span", {}, "Full colour: the largest weight of a context, its boxed token left out.")
    );
  }

  // sae/dashboards/app/src/token_line.ts
  var TokenLine = class {
    /** `classes` and `details` say how the token at an offset looks, and what its tip holds; with `choose` tokens are buttons. */
    constructor(texts, chosen, classes, details, choose = null) {
      this.classes = classes;
      this.choose = choose;
      this.at = chosen;
      this.spans = texts.map((text2, offset) => {
        const span = h("span", { class: classes(offset), role: choose && "button", tabindex: offset === chosen ? 0 : -1, onclick: () => choose?.(offset) }, running(text2));
        tip(span, () => details(offset));
        return span;
      });
      this.element = h("div", { class: "tokens", dir: "ltr" }, this.spans);
      this.element.addEventListener("keydown", (event) => this.key(event));
      this.element.addEventListener("focusin", (event) => this.at = this.spans.indexOf(event.target));
    }
    classes;
    choose;
    element;
    /** The token that the keyboard was last on. */
    at;
    spans;
    /** Asks again how the tokens look. */
    refresh() {
      this.spans.forEach((span, offset) => span.className = this.classes(offset));
    }
    /** Says of one token, to who cannot see it, that it is the chosen one. */
    mark(offset) {
      this.spans.forEach((span, at) => span.setAttribute("aria-pressed", String(at === offset)));
    }
    key(event) {
      if (this.choose && (event.key === "Enter" || event.key === " ")) {
        event.preventDefault();
        this.choose(this.at);
        return;
      }
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      const next = this.spans[this.at + by];
      if (!next) return;
      this.spans[this.at]?.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    }
  };
  var LineLayout = class {
    constructor(layout4) {
      this.layout = layout4;
    }
    layout;
    /** Buttons that choose it for the lines inside `body`. */
    buttons(body, name) {
      const buttons = ["line", "wrapped"].map((kind) => {
        const button = h("button", { type: "button", onclick: () => choose(kind) }, kind === "line" ? "One line" : "Wrapped");
        return { kind, button };
      });
      const choose = (chosen) => {
        this.layout = chosen;
        buttons.forEach(({ kind, button }) => button.setAttribute("aria-pressed", String(kind === chosen)));
        this.lay(body);
      };
      choose(this.layout);
      return h("div", { class: "kinds", role: "group", "aria-label": name }, buttons.map(({ button }) => button));
    }
    /** Lays the lines that are there now. */
    lay(body) {
      body.classList.toggle("line", this.layout === "line");
      body.classList.toggle("wrapped", this.layout === "wrapped");
      if (this.layout === "line") requestAnimationFrame(() => body.querySelectorAll(".tokens").forEach(centre));
    }
  };
  function centre(line) {
    const peak = line.querySelector(".peak");
    if (peak) line.scrollLeft = peak.offsetLeft - line.clientWidth / 2 + peak.offsetWidth / 2;
  }

  // sae/dashboards/app/src/views/context_line.ts
  var ContextLine = class {
    constructor(context, record, strings, layer, shown2, way) {
      this.context = context;
      this.record = record;
      this.strings = strings;
      this.layer = layer;
      this.shown = shown2;
      this.way = way;
      this.acts = new Map(shown2.places.map((place2, i) => [place2, shown2.acts[i] ?? 0]));
      this.line = new TokenLine(shown2.tokens.map((place2) => strings[place2]?.text ?? ""), shown2.peak, (offset) => this.classes(offset), (offset) => this.details(offset));
      const value = explained(h("span", { class: "value" }, short(this.acts.get(shown2.peak))), "Activation on the boxed token, at this layer.");
      this.element = h("div", { class: "example" }, value, this.line.element, this.note);
      this.say();
    }
    context;
    record;
    strings;
    layer;
    shown;
    way;
    element;
    line;
    acts;
    note = h("span", { class: "measure" });
    get weights() {
      return weightsBy(this.shown, this.way);
    }
    classes(offset) {
      const { weights, shown: shown2 } = this;
      if (offset === shown2.peak) return "t peak target";
      return `t ${weights ? salient(weights[offset] ?? 0, largestWeight(weights, shown2.peak)) : `a${step(this.acts.get(offset) ?? 0, this.record.max ?? 0)}`}`;
    }
    details(offset) {
      const { shown: shown2, record } = this;
      const text2 = this.strings[shown2.tokens[offset]];
      const act = this.acts.get(offset);
      return [
        h("p", {}, token(text2?.text ?? ""), ` token ${text2?.id ?? "?"}`),
        h("p", {}, act === void 0 ? "not active at this layer" : `activation ${short(act)}, ${short(100 * act / (record.max ?? NaN))} % of the largest`),
        shown2.saliency.map(({ method, weights }) => h("p", {}, `${DEFINITIONS[method].name}: ${signed(weights[offset])}`)),
        offset === shown2.peak && h("p", {}, "the context was chosen for this token"),
        h("p", { class: "quiet" }, `document ${shown2.document}, block ${shown2.block}, position ${shown2.start + offset}`)
      ];
    }
    /** Where the chosen way was not used: says so, and lets the server use it. */
    say() {
      const { way } = this;
      if (way === "activation" || this.weights) return replace(this.note);
      const button = this.context.live && h("button", { type: "button", class: "small", onclick: () => void this.measure(way, button) }, "measure");
      replace(this.note, explained(h("small", {}, "by activation"), "Saliency was not measured here in the chosen way: tokens are coloured by activation."), button);
    }
    async measure(method, button) {
      const { shown: shown2, record, layer } = this;
      button.disabled = true;
      button.textContent = "measuring";
      try {
        const { weights } = await this.context.live.saliency({ factor: record.factor, layer, block: shown2.block, position: shown2.start + shown2.peak, method });
        shown2.saliency.push({ method, weights: weights.slice(shown2.start, shown2.start + shown2.tokens.length) });
        this.line.refresh();
        this.say();
      } catch (error) {
        replace(this.note, h("span", { role: "alert" }, error.message));
      }
      hideTip();
    }
  };

  // sae/dashboards/app/src/views/contexts.ts
  var SIDE_BY_SIDE = 4;
  var layout = new LineLayout("wrapped");
  var ContextsView = class {
    constructor(context, info, record, strings, change) {
      this.context = context;
      this.info = info;
      this.record = record;
      this.strings = strings;
      this.change = change;
      const ways = waysOf(record.layers.flatMap(({ contexts }) => contexts), context.live !== null);
      this.ways = ways.map((way) => ({ way, button: h("button", { type: "button", onclick: () => change({ way }) }, way === "activation" ? "Activation" : DEFINITIONS[way].name) }));
      this.sides = [false, true].map((side) => ({ side, button: h("button", { type: "button", onclick: () => change({ side }) }, side ? "Side by side" : "One layer") }));
      const group = (name, buttons) => h("div", { class: "kinds", role: "group", "aria-label": name }, buttons.map(({ button }) => button));
      this.element = h(
        "section",
        { class: "examples contexts", "aria-labelledby": "contexts-title" },
        h("div", { class: "bar-title" }, this.title, group("Layers shown", this.sides)),
        h("div", { class: "bar-title" }, group("Colour of tokens", this.ways), layout.buttons(this.body, "Layout of contexts")),
        this.unmeasured(),
        this.legend,
        this.body
      );
    }
    context;
    info;
    record;
    strings;
    change;
    element;
    title = h("h2", { id: "contexts-title" });
    legend = h("div", {});
    body = h("div", {});
    ways;
    sides;
    /** How to get saliency, where no way but the activation can be chosen. */
    unmeasured() {
      if (this.ways.length > 1 || this.record.fired === 0) return null;
      return h(
        "p",
        { class: "quiet unmeasured" },
        "Saliency, which tokens make the factor fire, was not measured for this factor. Served pages measure it on request: ",
        h("code", {}, "python scripts/factors.py from=RUN serve=true"),
        ". Pages are made with more of it by ",
        h("code", {}, "pages.saliency_minutes="),
        "."
      );
    }
    /** The way that is shown: the chosen one, else the one that was used for most of the contexts that are shown. */
    way(chosen, layers) {
      const contexts = layers.flatMap((layer) => layer.contexts);
      const used = (way) => contexts.filter((one) => weightsBy(one, way)).length;
      if (chosen && this.ways.some(({ way }) => way === chosen)) return chosen;
      const [most] = this.ways.map(({ way }) => ({ way, times: used(way) })).sort((a, b) => b.times - a.times);
      return most?.times ? most.way : "activation";
    }
    show(layer, state) {
      const way = this.way(state.way, state.side ? this.record.layers : [this.record.layers[layer]]);
      for (const one of this.ways) one.button.setAttribute("aria-pressed", String(one.way === way));
      for (const one of this.sides) one.button.setAttribute("aria-pressed", String(one.side === state.side));
      replace(this.legend, wayLegend(way, this.record.max ?? 0));
      if (state.side) this.all(way);
      else this.one(layer, way);
      layout.lay(this.body);
    }
    lines(layer, contexts, way) {
      return h("ol", {}, contexts.map((one) => h("li", {}, new ContextLine(this.context, this.record, this.strings, layer, one, way).element)));
    }
    one(layer, way) {
      const { contexts, fired } = this.record.layers[layer];
      const count = explained(
        h("small", {}, ` ${whole(contexts.length)}, of ${whole(fired)} vectors on which it is active`),
        "Contexts shown, strongest first and one for a token of the text; and the vectors of this layer on which the factor is active."
      );
      replace(this.title, "Contexts at ", h("bdi", {}, this.info.layers[layer].name), count);
      this.body.className = "groups group";
      replace(this.body, contexts.length ? this.lines(layer, contexts, way) : h("p", { class: "quiet" }, "The factor is never active at this layer."));
    }
    all(way) {
      const { layers } = this.info;
      replace(this.title, "Contexts, layer by layer");
      this.body.className = "groups group side-by-side";
      replace(this.body, this.record.layers.map(({ contexts, importance }, layer) => {
        const choose = h("button", { type: "button", class: "layer-name", onclick: () => this.change({ layer, side: false }) }, h("span", { class: `swatch l${layerShade(layer, layers.length)}`, "aria-hidden": "true" }), h("bdi", {}, layers[layer].name));
        return h(
          "section",
          {},
          h("h3", {}, choose, h("small", {}, term("importance", "importance"), ` ${short(importance)}`)),
          contexts.length ? this.lines(layer, contexts.slice(0, SIDE_BY_SIDE), way) : h("p", { class: "quiet" }, "never active")
        );
      }));
    }
  };

  // sae/dashboards/app/src/views/go_to.ts
  function goToForm(noun2, size2) {
    const input = h("input", { type: "text", inputmode: "numeric", id: "go-to", autocomplete: "off", size: 7, "aria-keyshortcuts": "g" });
    const go = (event) => {
      event.preventDefault();
      const words2 = input.value.trim();
      const known = /^\d+$/.test(words2) && Number(words2) < size2;
      input.setAttribute("aria-invalid", String(!known));
      if (known) location.hash = `#/${noun2}/${Number(words2)}`;
    };
    return h("form", { class: "field", onsubmit: go }, h("label", { for: "go-to" }, `Go to ${noun2}`), input);
  }

  // sae/dashboards/app/src/views/factor.ts
  var LEVELS2 = ["low", "mid", "high"];
  function formatState({ layers }, { layer, side, way }) {
    const parameters = new URLSearchParams();
    if (layer !== null) parameters.set("layer", layers[layer].name);
    if (side) parameters.set("view", "side");
    if (way) parameters.set("colour", way);
    return parameters.size ? `?${parameters}` : "";
  }
  function parseState({ layers }, parameters) {
    const layer = layers.findIndex(({ name }) => name === parameters.get("layer"));
    return { layer: layer < 0 ? null : layer, side: parameters.get("view") === "side", way: parameters.get("colour") };
  }
  function factorView(context, info, record, strings, around, first, keep2) {
    let state = first;
    const way = h("div", {});
    const tokens = h("div", {});
    const curve = importanceCurve(info, record, (layer) => change({ layer }));
    const slider = layerSlider(info.layers, (layer) => change({ layer }));
    const contexts = new ContextsView(context, info, record, strings, change);
    function change(part) {
      state = { ...state, ...part };
      keep2(state);
      show2();
    }
    function show2() {
      const layer = state.layer ?? record.peak_layer ?? 0;
      columns.classList.toggle("one-below-another", state.side);
      replace(way, walk(around, "Previous and next factor", (factor2) => `#/factor/${factor2}${formatState(info, state)}`));
      curve.show(layer);
      slider.show(layer);
      contexts.show(layer, state);
      replace(tokens, tokensCard(record.layers[layer].tokens, strings, ["factor_token_count", "factor_token_share", "factor_token_mean"], `Tokens it fires on at ${info.layers[layer].name}`));
    }
    const columns = h(
      "div",
      { class: "columns" },
      h("div", { class: "emerges" }, curve.element, slider.element, contexts.element),
      h(
        "div",
        { class: "side" },
        record.fired > 0 && histogram({ title: `Activations of factor ${record.factor}`, heading: "Activations above zero, all layers", bars: record.histogram, unit: "activation", counted: "vectors" }).element,
        tokens,
        logitsCard(record.logits, strings, `factor ${record.factor}`, "factor_logit_weight"),
        neighboursCard(context, "Nearest in the dictionary", "Factor", "factor_cosine", record.neighbours, short)
      )
    );
    show2();
    const words2 = context.catalogue?.explanation(record.factor);
    return h(
      "article",
      { class: "latent factor" },
      h("div", { class: "latent-head" }, h("h1", { tabindex: -1 }, `Factor ${record.factor}`), way, context.manifest && goToForm("factor", context.manifest.num_latents)),
      words2 && h("p", { class: "explanations" }, h("bdi", {}, words2)),
      numberList(numbers(info, record)),
      columns
    );
  }
  function numbers(info, record) {
    const level = h("button", { type: "button", class: "term" }, record.level ? levelWord(LEVELS2.indexOf(record.level)) : "none: it never fired");
    tip(level, () => [h("b", {}, "How levels are told"), h("p", {}, h("bdi", {}, info.level_rule))]);
    const entries = [
      ["level", level],
      ["peak_layer", h("bdi", {}, record.peak_layer === null ? "\u2013" : info.layers[record.peak_layer].name)],
      ["importance", short(record.peak_layer === null ? null : record.layers[record.peak_layer].importance)],
      ["factor_density", percent(record.density)],
      ["factor_fired", `${whole(record.fired)} vectors`],
      ["factor_max", short(record.max)],
      ["factor_concentration", percent(record.concentration)],
      ["factor_entropy", `${short(record.entropy)} bits`],
      ["factor_decoder_norm", short(record.decoder_norm)]
    ];
    return entries.map(([key, value]) => [key === "importance" ? term(key, "Importance at its peak") : term(key), value]);
  }

  // sae/dashboards/app/src/lanes.ts
  var [NAME, RIGHT3, TOP3, LANE, FOOT] = [132, 24, 10, 26, 36];
  var THICKEST = 19;
  var INSIDE2 = 16;
  var TAPER = 0.4;
  var MANY = 15;
  function lanesOf(layers) {
    const lanes = /* @__PURE__ */ new Map();
    layers.forEach((factors, layer) => {
      for (const { factor: factor2, activation } of factors) {
        if (!lanes.has(factor2)) lanes.set(factor2, new Array(layers.length).fill(0));
        lanes.get(factor2)[layer] = activation;
      }
    });
    const first = (acts) => acts.findIndex((act) => act > 0);
    const length = (acts) => acts.filter((act) => act > 0).length;
    return [...lanes].map(([factor2, acts]) => ({ factor: factor2, acts })).sort((a, b) => first(a.acts) - first(b.acts) || length(b.acts) - length(a.acts) || Math.max(...b.acts) - Math.max(...a.acts));
  }
  function fate(acts, layer) {
    const [before, now] = [layer > 0 && acts[layer - 1] > 0, acts[layer] > 0];
    if (now) return layer === 0 || before ? short(acts[layer]) : `${short(acts[layer])} appears`;
    return before ? "vanishes" : "";
  }
  function balance(lanes, layer) {
    const fates = lanes.map(({ acts }) => [layer > 0 && acts[layer - 1] > 0, acts[layer] > 0]);
    const count = (before, now) => fates.filter((one) => one[0] === before && one[1] === now).length;
    return layer === 0 ? `${count(false, true)}` : `${count(true, true)} stay, ${count(false, true)} appear, ${count(true, false)} vanish`;
  }
  function lanesChart(title, layers, lanes, link, address, gist, point) {
    const axis2 = new LayerAxis(layers);
    const top = lanes.length > MANY ? FOOT : TOP3;
    const bottom = top + lanes.length * LANE;
    const height = bottom + FOOT;
    const largest = Math.max(1e-12, ...lanes.flatMap(({ acts }) => acts));
    const chart = s("svg", { class: "lanes", role: "group", height, "aria-label": `${title}: ${lanes.length} factors over ${layers.length} layers` });
    const readout = h("output", { "aria-live": "polite" }, "\xA0");
    let width = 0;
    function outline(acts, middle) {
      const stretches = [];
      acts.forEach((act, layer) => {
        if (!(act > 0)) return;
        const half = Math.max(0.75, act / largest * (THICKEST / 2));
        const [starts, ends] = [!(acts[layer - 1] > 0), !(acts[layer + 1] > 0)];
        if (starts) stretches.push([[axis2.x(layer) - axis2.step * TAPER, 0]]);
        if (layer === 0) stretches[0] = [[axis2.x(0) - INSIDE2 / 2, half]];
        stretches.at(-1).push([axis2.x(layer), half]);
        if (ends) stretches.at(-1).push(layer === acts.length - 1 ? [axis2.x(layer) + INSIDE2 / 2, half] : [axis2.x(layer) + axis2.step * TAPER, 0]);
      });
      const edge = (side, points) => points.map(([x, half], i) => {
        const before = points[i - 1];
        if (!before) return `${pixel(x)} ${pixel(middle + side * half)}`;
        const bend = pixel((x + before[0]) / 2);
        return `C${bend} ${pixel(middle + side * before[1])} ${bend} ${pixel(middle + side * half)} ${pixel(x)} ${pixel(middle + side * half)}`;
      }).join("");
      return stretches.map((points) => `M${edge(-1, points)}L${edge(1, [...points].reverse())}Z`).join("");
    }
    function lane({ factor: factor2, acts }, row) {
      const middle = top + (row + 0.5) * LANE;
      const peak = acts.indexOf(Math.max(...acts));
      const words2 = acts.flatMap((act, layer) => act > 0 ? [`${layers[layer].name} ${short(act)}`] : []).join(", ");
      const read = () => {
        readout.textContent = `factor ${factor2}, activation by layer: ${words2}`;
        point(factor2);
      };
      const leave = () => {
        readout.textContent = "\xA0";
        point(null);
      };
      return s(
        "a",
        { class: "lane", href: address(factor2), "aria-label": `Factor ${factor2} ${gist(factor2)}: ${words2}`, onpointerenter: read, onpointerleave: leave, onfocus: read, onblur: leave },
        s("rect", { class: "lane-ground", "data-control": true, x: 0, y: top + row * LANE, width, height: LANE }),
        s("text", { y: middle + 4 }, s("tspan", { class: "lane-number", x: 52, "text-anchor": "end" }, factor2), s("tspan", { class: "lane-gist", x: 56 }, ` ${gist(factor2)}`)),
        s("path", { class: "grid", d: `M${NAME} ${middle}H${width - RIGHT3}` }),
        s("path", { class: `stream f${layerShade(peak, layers.length)}`, d: outline(acts, middle) })
      );
    }
    fitted(chart, (now) => {
      width = now;
      axis2.lay(NAME + INSIDE2, width - RIGHT3, width);
      chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
      replace(
        chart,
        lanes.map(lane),
        layers.map((_, i) => s("path", { class: "layer-line", d: `M${pixel(axis2.x(i))} ${top}V${bottom}` })),
        axis2.draw(bottom + 4, null),
        lanes.length > MANY && axis2.draw(0, null)
      );
    });
    const rows = lanes.map(({ factor: factor2, acts }) => [link(factor2), ...acts.map((_, layer) => fate(acts, layer))]);
    rows.push(["All", ...layers.map((_, layer) => balance(lanes, layer))]);
    const heading2 = [term("factor_activation", "Activation"), " of its factors, layer by layer"];
    return chartFigure(title, heading2, chart, readout, [term("factor"), ...layers.map(({ name }) => h("bdi", {}, name))], rows);
  }

  // sae/dashboards/app/src/views/path.ts
  var GIST = 9;
  function pathView(context, info, page, first, keep2) {
    const { tokens } = page;
    let chosen = first ?? Math.max(0, tokens.map(({ kept: kept3, text: text2 }) => kept3 && /[\p{L}\p{N}]/u.test(text2)).lastIndexOf(true));
    let lit = null;
    let strongest = 1;
    const largest = tokens.map((entry) => largestActs(entry));
    const note = h("div", { class: "lit legend" });
    const title = h("h2", {});
    const chart = h("div", {});
    const actOf = (offset) => lit === null ? 0 : largest[offset].get(lit) ?? 0;
    const line = new TokenLine(tokens.map(({ text: text2 }) => text2), chosen, (offset) => `t a${step(actOf(offset), strongest)}${offset === chosen ? " peak target" : ""}`, (offset) => [
      h("p", {}, token(tokens[offset].text), ` token ${tokens[offset].id}, position ${offset}`),
      h("p", {}, tokens[offset].kept ? `${largest[offset].size} factors, all layers together` : "a special token, on which no factor is read"),
      lit !== null && h("p", {}, `factor ${lit}: at most ${short(actOf(offset))}`)
    ], (offset) => {
      chosen = offset;
      keep2(offset);
      show2();
    });
    function light(factor2) {
      lit = factor2;
      strongest = Math.max(1e-12, ...tokens.map((_, offset) => actOf(offset)));
      line.refresh();
      if (factor2 === null) replace(note, "A token is chosen by a click, or by the arrow keys and Enter. Pointing at a factor below colours the text by it.");
      else replace(note, h("span", {}, "Factor ", latentLink(context, factor2), ", its largest activation over the layers"), scaleLegend(strongest));
    }
    function show2() {
      light(null);
      line.mark(chosen);
      const entry = tokens[chosen];
      replace(title, "Factors on ", entry && token(entry.text), explained(h("small", {}, `position ${chosen}`), "Position of the token in the text, from 0, special tokens counted too."));
      const lanes = entry ? lanesOf(entry.layers) : [];
      const gist = (factor2) => visible(context.catalogue?.topToken(factor2)?.text.trim() ?? "", GIST).slice(0, GIST + 1);
      replace(chart, lanes.length ? lanesChart(`Factors on token ${chosen}`, info.layers, lanes, (factor2) => latentLink(context, factor2), (factor2) => `#/factor/${factor2}`, gist, light) : h("p", { class: "quiet" }, entry?.kept === false ? "A special token: no factor is read on it." : "No factor is active on this token."));
    }
    show2();
    return h(
      "article",
      { class: "path-page" },
      h("div", { class: "text-box" }, h("div", { class: "text-tokens" }, line.element), note),
      h("div", { class: "bar-title" }, title),
      h("p", { class: "quiet" }, "A lane is as thick as the factor is active, and coloured by the layer where it is strongest here. At each layer the strongest factors are known: a lane that ends may go on weakly."),
      chart
    );
  }
  function largestActs({ layers }) {
    const found = /* @__PURE__ */ new Map();
    for (const { factor: factor2, activation } of layers.flat()) found.set(factor2, Math.max(activation, found.get(factor2) ?? 0));
    return found;
  }

  // sae/dashboards/app/src/groups_chart.ts
  var GROUP_COLOURS = 7;
  var [SIDE, TOP4, HEIGHT2, BAR] = [26, 10, 240, 9];
  var BOTTOM2 = HEIGHT2 - 36;
  var WIDEST_GAP = 5;
  var MOST_GAPS = 0.3;
  function groupColour(group) {
    return `g${group < GROUP_COLOURS ? group + 1 : 0}`;
  }
  function ranks(groups) {
    const keys = /* @__PURE__ */ new Map();
    for (const layer of [...groups].reverse()) {
      layer.forEach(({ occurrences }, group) => occurrences.forEach((one) => keys.set(one, [...keys.get(one) ?? [], group])));
    }
    const compare = (a, b) => a.map((group, i) => group - (b[i] ?? 0)).find((difference) => difference !== 0) ?? 0;
    const order = [...keys].sort((a, b) => compare(a[1], b[1]) || a[0] - b[0]);
    return new Map(order.map(([one], rank) => [one, rank]));
  }
  function columnOf(groups, rank) {
    const sorted2 = groups.map(({ occurrences }, group) => {
      const members = [...occurrences].sort((a, b) => rank.get(a) - rank.get(b));
      return { group, members, height: members.reduce((sum, one) => sum + rank.get(one), 0) / members.length };
    });
    const places = /* @__PURE__ */ new Map();
    const stack = sorted2.sort((a, b) => a.height - b.height).map(({ group, members }) => {
      const slot = places.size;
      members.forEach((one, i) => places.set(one, { group, slot: slot + i }));
      return { group, slot, size: members.length };
    });
    return { places, stack };
  }
  function groupsChart(word2, layers, groups, choose) {
    const axis2 = new LayerAxis(layers);
    const rank = ranks(groups);
    const columns = groups.map((layer) => columnOf(layer, rank));
    const most = Math.max(1, ...columns.map(({ places }) => places.size));
    const widest = Math.max(1, ...groups.map((layer) => layer.length));
    const gap = Math.min(WIDEST_GAP, (BOTTOM2 - TOP4) * MOST_GAPS / Math.max(1, widest - 1));
    const each = (BOTTOM2 - TOP4 - gap * (widest - 1)) / most;
    let width = 0;
    let chosen = 0;
    const title = `Groups of ${word2} over the layers`;
    const chart = s("svg", { class: "groups-chart", role: "img", height: HEIGHT2, "aria-label": `${title}: ${groups.map((layer, i) => `${layers[i].name} ${layer.length}`).join(", ")}.` });
    const readout = h("output", { "aria-live": "polite" }, "\xA0");
    const y = (layer, slot, group) => TOP4 + slot * each + gap * columns[layer].stack.findIndex((one) => one.group === group);
    function bands(layer) {
      const [here, there] = [columns[layer].places, columns[layer + 1].places];
      const runs = [];
      for (const [one, from] of [...here].sort((a2, b2) => a2[1].slot - b2[1].slot)) {
        const to = there.get(one);
        if (!to) continue;
        const group = columns[chosen].places.get(one)?.group;
        const colour = group === void 0 ? "g0" : groupColour(group);
        const ends = [y(layer, from.slot, from.group), y(layer + 1, to.slot, to.group)];
        const run = runs.at(-1);
        const follows = run && run.colour === colour && ends.every((end, side) => Math.abs(end - run.ends[side] - run.size * each) < 1e-6);
        if (follows) run.size += 1;
        else runs.push({ size: 1, colour, ends });
      }
      const [a, b] = [axis2.x(layer) + BAR / 2, axis2.x(layer + 1) - BAR / 2];
      const middle = (a + b) / 2;
      return runs.map(({ size: size2, colour, ends: [from, to] }) => s("path", {
        class: `band ${colour}`,
        d: `M${pixel(a)} ${pixel(from)}C${pixel(middle)} ${pixel(from)} ${pixel(middle)} ${pixel(to)} ${pixel(b)} ${pixel(to)}V${pixel(to + size2 * each)}C${pixel(middle)} ${pixel(to + size2 * each)} ${pixel(middle)} ${pixel(from + size2 * each)} ${pixel(a)} ${pixel(from + size2 * each)}Z`
      }));
    }
    function bars(layer) {
      return columns[layer].stack.map(({ group, slot, size: size2 }) => {
        const words2 = `${layers[layer].name}, group ${group + 1} of ${groups[layer].length}: ${whole(size2)} occurrences`;
        return s("rect", {
          class: layer === chosen ? `node ${groupColour(group)}` : "node",
          x: pixel(axis2.x(layer) - BAR / 2),
          y: pixel(y(layer, slot, group)),
          width: BAR,
          height: pixel(Math.max(1, size2 * each)),
          onpointerenter: () => readout.textContent = words2,
          onpointerleave: () => readout.textContent = "\xA0",
          onclick: () => choose(layer)
        });
      });
    }
    function draw() {
      chart.setAttribute("viewBox", `0 0 ${width} ${HEIGHT2}`);
      replace(
        chart,
        s("rect", { class: "chosen-column", x: pixel(axis2.x(chosen) - 11), y: TOP4 - 6, width: 22, height: BOTTOM2 - TOP4 + 10, rx: 4 }),
        layers.slice(1).map((_, layer) => bands(layer)),
        layers.map((_, layer) => bars(layer)),
        axis2.draw(BOTTOM2 + 4, chosen)
      );
    }
    fitted(chart, (now) => {
      width = now;
      axis2.lay(SIDE, width - SIDE, width);
      draw();
    });
    const rows = groups.map((layer, i) => [h("bdi", {}, layers[i].name), whole(layer.length), layer.map(({ occurrences }) => occurrences.length).join(", ")]);
    return {
      element: chartFigure(title, [term("groups", "Groups"), " over the layers"], chart, readout, ["Layer", term("groups"), term("occurrences")], rows),
      show: (layer) => {
        chosen = layer;
        draw();
      }
    };
  }

  // sae/dashboards/app/src/views/word.ts
  var SHOWN = 8;
  var layout2 = new LineLayout("line");
  function wordView(context, info, page, first, keep2) {
    if (!page.occurrences.length) return h("p", {}, "The word is nowhere in the text that was read.");
    const at = (layer) => `?${new URLSearchParams({ layer: info.layers[layer].name })}`;
    const chart = groupsChart(visible(page.word), info.layers, page.groups, change);
    const slider = layerSlider(info.layers, change);
    const title = h("h2", { id: "groups-title" });
    const list2 = h("div", { class: "groups" });
    function change(layer) {
      keep2(layer);
      show2(layer);
    }
    function show2(layer) {
      chart.show(layer);
      slider.show(layer);
      const groups = page.groups[layer] ?? [];
      replace(title, `${whole(groups.length)} ${groups.length === 1 ? "group" : "groups"} at `, h("bdi", {}, info.layers[layer].name));
      replace(list2, groups.length ? groups.map((group, number2) => groupView2(group, number2, layer)) : h("p", { class: "quiet" }, "No occurrence uses a factor at this layer."));
      layout2.lay(list2);
    }
    function groupView2({ occurrences, factors }, number2, layer) {
      const lines = h("ol", {});
      const line = (place2) => h("li", {}, occurrenceLine(page, page.occurrences[place2], layer));
      const more = occurrences.length > SHOWN && h("button", { type: "button", class: "small", onclick: (event) => {
        event.currentTarget.remove();
        lines.append(...occurrences.slice(SHOWN).map(line));
        layout2.lay(list2);
      } }, `${whole(occurrences.length - SHOWN)} more`);
      lines.append(...occurrences.slice(0, SHOWN).map(line));
      return h(
        "section",
        { class: "group sense" },
        h(
          "h3",
          {},
          h("span", { class: `swatch ${groupColour(number2)}`, "aria-hidden": "true" }),
          ` Group ${number2 + 1}`,
          explained(h("small", {}, `${whole(occurrences.length)} of ${whole(page.occurrences.length)} occurrences`), "Occurrences in this group, of those that are shown.")
        ),
        h("p", { class: "sets-apart" }, factors.length ? [page.groups[layer].length > 1 ? "Set apart by " : "Its factors ", h("span", { class: "chips" }, factors.map((one) => chip(one, layer)))] : h("span", { class: "quiet" }, "No factor sets it apart.")),
        lines,
        more
      );
    }
    function chip({ factor: factor2, activation }, layer) {
      const top = context.catalogue?.topToken(factor2);
      return h("span", { class: "chip" }, latentLink(context, factor2, at(layer)), top && token(top.text), explained(h("span", { class: "number" }, signed(activation)), DEFINITIONS.sense_difference.means));
    }
    show2(first ?? Math.floor((info.layers.length - 1) / 2));
    return h(
      "article",
      { class: "word-page" },
      h(
        "p",
        { class: "quiet" },
        `${whole(page.occurrences.length)} of ${whole(page.total)} `,
        term("occurrences", "occurrences"),
        ", grouped by the factors that their last token uses. Beside each factor: ",
        term("sense_difference", "by how much"),
        " it is stronger in the group than elsewhere."
      ),
      chart.element,
      slider.element,
      h("section", { class: "examples", "aria-labelledby": "groups-title" }, h("div", { class: "bar-title" }, title, layout2.buttons(list2, "Layout of occurrences")), list2)
    );
  }
  function occurrenceLine({ strings }, one, layer) {
    const details = (offset) => {
      const text2 = strings[one.tokens[offset]];
      const factors = offset === one.peak ? one.layers[layer] ?? [] : [];
      return [
        h("p", {}, token(text2?.text ?? ""), ` token ${text2?.id ?? "?"}`),
        factors.map(({ factor: factor2, activation }) => h("p", {}, `factor ${factor2}: activation ${short(activation)}`)),
        h("p", { class: "quiet" }, `document ${one.document}, block ${one.block}, position ${one.start + offset}`)
      ];
    };
    const line = new TokenLine(one.tokens.map((place2) => strings[place2]?.text ?? ""), one.peak, (offset) => offset === one.peak ? "t peak target" : "t", details);
    return h("div", { class: "example" }, line.element);
  }

  // sae/dashboards/app/src/views/factor_pages.ts
  var LONGEST_TITLE = 200;
  async function factorPage(context, info, page, number2, query, around) {
    const parameters = new URLSearchParams(query);
    context.catalogue ??= await readCatalogue(context.manifest);
    if (page === "factor") return factor(context, info, place(number2, context.manifest.num_latents, "factor"), parameters, around);
    if (page === "words") return ["Words", words(context, info)];
    if (page === "word") return word(context, info, place(number2, info.words.length, "word"), parameters);
    if (page === "paths") return ["Paths", paths(context, info)];
    if (page === "path") return path(context, info, place(number2, info.paths.length, "text"), parameters);
    return null;
  }
  function keep(address) {
    history.replaceState(null, "", address);
  }
  async function factor(context, info, number2, parameters, around) {
    const shard = await factorsFile(Math.floor(number2 / info.size));
    const record = shard.factors[number2 - shard.first];
    if (!record) throw new Error(`Factor ${number2} is missing from its file.`);
    const state = parseState(info, parameters);
    return [`Factor ${number2}`, factorView(context, info, record, shard.strings, around(number2), state, (now) => keep(`#/factor/${number2}${formatState(info, now)}`))];
  }
  async function word(context, info, number2, parameters) {
    const page = await wordFile(number2);
    const layer = info.layers.findIndex(({ name }) => name === parameters.get("layer"));
    const view = wordView(context, info, page, layer < 0 ? null : layer, (now) => keep(`#/word/${number2}?${new URLSearchParams({ layer: info.layers[now].name })}`));
    return [visible(page.word, 80), h("div", {}, heading(`\u201C${page.word}\u201D`), view)];
  }
  async function path(context, info, number2, parameters) {
    const page = await pathFile(number2);
    const token2 = Number(parameters.get("token") ?? NaN);
    const view = pathView(context, info, page, page.tokens[token2] ? token2 : null, (now) => keep(`#/path/${number2}?token=${now}`));
    return [visible(page.title, 80), h("div", {}, heading(page.title), view)];
  }
  function heading(title) {
    return h("h1", { tabindex: -1 }, h("bdi", {}, visible(title, LONGEST_TITLE)));
  }
  function words(context, info) {
    const field = h("input", { id: "live-word", type: "text", autocomplete: "off", spellcheck: "false" });
    return h(
      "div",
      {},
      heading("Words"),
      h("p", { class: "quiet" }, "A word's occurrences, grouped at each layer by the factors they use."),
      list("word", info.words),
      context.live && form(context.live, field, "Any word of the text", "Show its groups", async (live) => {
        const page = await live.word({ word: field.value });
        return h("div", {}, h("h2", {}, "\u201C", h("bdi", {}, visible(page.word, LONGEST_TITLE)), "\u201D"), wordView(context, info, page, null, () => void 0));
      })
    );
  }
  function paths(context, info) {
    const field = h("textarea", { id: "live-path", rows: 3, spellcheck: "false", maxlength: context.live?.hello.limits.characters });
    return h(
      "div",
      {},
      heading("Paths"),
      h("p", { class: "quiet" }, "Texts, token by token: how a token's factors change from layer to layer."),
      list("path", info.paths),
      context.live && form(context.live, field, "Any text", "Show its paths", async (live) => pathView(context, info, await live.path({ text: field.value }), null, () => void 0))
    );
  }
  function list(page, titles) {
    if (!titles.length) return null;
    return h("ul", { class: "texts" }, titles.map((title, number2) => h("li", {}, h("a", { href: `#/${page}/${number2}` }, h("bdi", {}, visible(title, LONGEST_TITLE))))));
  }
  function form(live, field, label, action, answer) {
    const said = h("p", { class: "status", role: "status" });
    const result = h("div", { class: "live-result" });
    async function ask2() {
      said.textContent = "Reading";
      try {
        replace(result, await answer(live));
        said.textContent = "";
      } catch (error) {
        said.textContent = error.message;
      }
    }
    return h("div", { class: "live" }, h("form", { class: "live-form", onsubmit: (event) => {
      event.preventDefault();
      void ask2();
    } }, h("label", { for: field.id }, label), field, h("p", {}, h("button", { type: "submit", class: "main" }, action))), said, result);
  }

  // sae/dashboards/app/src/views/examples.ts
  var layout3 = new LineLayout("line");
  function examplesView(context, record, strings) {
    const all = record.groups.flatMap((group) => group.examples);
    const effects = all.some((example) => example.effects !== null || Object.keys(example.exact).length > 0);
    const strong = strongEffect(all);
    const draw = (example) => new ExampleView(context, record, strings, example, strong).element;
    const body = h("div", { class: "groups" });
    const intervals = record.groups.filter((group) => group.kind === "interval").length;
    let interval = 0;
    replace(body, record.groups.map((group) => groupView(group, group.kind === "interval" ? ++interval : 0, intervals, draw)));
    return h(
      "section",
      { class: "examples", "aria-labelledby": "examples-title" },
      h("div", { class: "bar-title" }, h("h2", { id: "examples-title" }, "Examples"), layout3.buttons(body, "Layout of examples")),
      all.length ? [legend(record.max ?? 0, effects), body] : h("p", { class: "quiet" }, "No token of the text makes this latent fire.")
    );
  }
  function strongEffect(examples) {
    const sizes = examples.flatMap((example) => example.places.map((place2, i) => Math.abs(example.exact[place2] ?? example.effects?.[i] ?? 0)));
    sizes.sort((a, b) => a - b);
    return Math.max(1e-12, sizes[Math.floor(0.95 * sizes.length)] ?? 0);
  }
  function groupView(group, number2, of, draw) {
    if (!group.examples.length && group.kind !== "interval") return null;
    const range = group.low !== null && group.high !== null ? `${short(group.low)} to ${short(group.high)}` : "";
    const title = { top: "Strongest", interval: `Interval ${of - number2 + 1} of ${of}: activation ${range}`, random: "Random firings" }[group.kind];
    return h(
      "section",
      { class: "group" },
      h("h3", {}, title, size(group)),
      group.examples.length ? h("ol", {}, group.examples.map((example) => h("li", {}, draw(example)))) : null
    );
  }
  function size({ examples, count }) {
    const words2 = h("small", {}, ` ${whole(examples.length)} of ${whole(count)}`);
    tip(words2, () => ["Examples shown, of the firings that they were taken from. Where firings lie close together, one example shows them."]);
    return words2;
  }
  var ExampleView = class {
    constructor(context, record, strings, example, strongEffect2) {
      this.context = context;
      this.record = record;
      this.strings = strings;
      this.example = example;
      this.strongEffect = strongEffect2;
      example.places.forEach((place2, i) => {
        this.acts.set(place2, example.acts[i] ?? 0);
        if (example.effects) this.effects.set(place2, example.effects[i] ?? 0);
      });
      const texts = example.tokens.map((place2) => strings[place2]?.text ?? "");
      this.line = new TokenLine(texts, example.peak, (offset) => this.classes(offset), (offset) => this.details(offset));
      const value = h("span", { class: "value" }, short(this.acts.get(example.peak)));
      tip(value, () => ["Activation on the token that the example was chosen for."]);
      this.element = h("div", { class: "example" }, value, this.line.element, context.live?.hello.ablate && this.measure());
    }
    context;
    record;
    strings;
    example;
    strongEffect;
    element;
    line;
    acts = /* @__PURE__ */ new Map();
    effects = /* @__PURE__ */ new Map();
    classes(offset) {
      const effect = this.example.exact[offset] ?? this.effects.get(offset);
      const names = ["t", `a${step(this.acts.get(offset) ?? 0, this.record.max ?? 0)}`];
      if (offset === this.example.peak) names.push("peak");
      if (effect !== void 0) names.push(underline(effect, this.strongEffect));
      return names.join(" ").trim();
    }
    details(offset) {
      const { example } = this;
      const text2 = this.strings[example.tokens[offset]];
      const act = this.acts.get(offset);
      const lines = [h("p", {}, token(text2?.text ?? ""), ` token ${text2?.id ?? "?"}`)];
      lines.push(h("p", {}, act === void 0 ? "not active" : `activation ${short(act)}, ${short(100 * act / (this.record.max ?? NaN))} % of the largest`));
      const [estimate, exact] = [this.effects.get(offset), example.exact[offset]];
      if (exact !== void 0) lines.push(effectLine(exact, "exact: removed, and the model run again"));
      if (estimate !== void 0) lines.push(exact === void 0 ? effectLine(estimate, "estimated to first order") : h("p", { class: "quiet" }, `its estimate to first order was ${signed(estimate)} nats`));
      if (offset === example.peak) lines.push(h("p", {}, "the example was chosen for this token"));
      lines.push(h("p", { class: "quiet" }, `document ${example.document}, block ${example.block}, position ${example.start + offset}`));
      return lines;
    }
    /** Asks the server for the exact effect at the token last gone to where it fires, else at the chosen one. */
    measure() {
      const button = h("button", { type: "button", class: "small" }, "exact effect");
      button.title = "Removes the latent at the chosen token and runs the model again";
      const said = h("output", {});
      button.addEventListener("click", async () => {
        const offset = this.acts.has(this.line.at) ? this.line.at : this.example.peak;
        button.disabled = true;
        said.textContent = "running";
        try {
          const [effect = NaN] = await this.context.live.ablate({ block: this.example.block, position: this.example.start + offset, latents: [this.record.latent] });
          this.example.exact[offset] = effect;
          this.line.refresh();
          said.textContent = `${signed(effect)} nats, exact`;
        } catch (error) {
          said.textContent = error.message;
        }
        button.disabled = false;
        hideTip();
      });
      return h("span", { class: "measure" }, button, said);
    }
  };
  function effectLine(effect, how) {
    const words2 = effect > 0 ? `raises the loss by ${short(effect)}` : `lowers the loss by ${short(-effect)}`;
    return h("p", {}, h("span", { class: effect > 0 ? "raises-word" : "lowers-word" }, `removing it here ${words2} nats`), ` (${how})`);
  }

  // sae/dashboards/app/src/views/latent.ts
  function latentView(context, record, strings, around) {
    return h(
      "article",
      { class: "latent" },
      h("div", { class: "latent-head" }, h("h1", { tabindex: -1 }, `Latent ${record.latent}`), around && walk(around, "Previous and next latent", (latent2) => `#/latent/${latent2}`)),
      explanations(record),
      numbers2(context, record),
      h("div", { class: "columns" }, examplesView(context, record, strings), h(
        "div",
        { class: "side" },
        record.fired > 0 && histogram({ title: `Activations of latent ${record.latent}`, heading: "Activations above zero", bars: record.histogram, unit: "activation", counted: "tokens" }).element,
        tokensCard(record.tokens, strings, ["token_count", "token_share", "token_mean"]),
        logitsCard(record.logits, strings, `latent ${record.latent}`, "logit_weight"),
        neighboursCard(context, "Nearest by decoder", "Latent", "cosine", record.decoder_neighbours, short),
        neighboursCard(context, "Most often active together", "Latent", "jaccard", record.coactive_neighbours, percent, coactiveNote(context)),
        neurons(record),
        scores(record)
      ))
    );
  }
  function coactiveNote({ manifest }) {
    if (!manifest) return null;
    const { coactive_rows: sample, rows } = manifest;
    return sample < rows ? `Counted on ${whole(sample)} tokens, drawn at random from the ${whole(rows)} read.` : `Counted on all ${whole(rows)} tokens read.`;
  }
  function explanations(record) {
    if (!record.explanations.length) return null;
    return h("ul", { class: "explanations" }, record.explanations.map(({ text: text2, source, score }) => h("li", {}, h("bdi", {}, text2), h("small", {}, " ", h("bdi", {}, source), score !== null && [", ", term("score", "score"), ` ${short(score)}`]))));
  }
  function numbers2({ catalogue, manifest }, record) {
    const entries = [
      ["density", percent(record.density)],
      ["fired", `${whole(record.fired)} tokens`],
      ["max", short(record.max)],
      ["mean", short(record.mean)],
      ["std", short(record.std)],
      ["skewness", short(record.skewness)],
      ["kurtosis", short(record.kurtosis)],
      ["concentration", percent(record.concentration)],
      ["entropy", `${short(record.entropy)} bits`],
      ["decoder_norm", short(record.decoder_norm)]
    ];
    if (catalogue?.has("effect") && record.fired > 0) entries.push(["effect", `${effectWords(catalogue, record.latent)} nats`]);
    return numberList(entries.map(([key, value]) => [key === "effect" ? effectTerm(manifest) : term(key), value]));
  }
  function neurons(record) {
    const rows = record.neurons.map(({ dimension, weight, share }) => [String(dimension), signed(weight), percent(share)]);
    return card("Neurons it lies along", ["Dimension", term("neuron_weight"), term("neuron_share")], rows);
  }
  function scores(record) {
    return card("Scores", ["Measure", "Value"], record.scores.map(({ name, value }) => [h("bdi", {}, name), short(value)]));
  }
  function latentTitle(record) {
    return `${DEFINITIONS.latent.name} ${record.latent}`;
  }

  // sae/dashboards/app/src/map.ts
  var MARGIN_PIXELS = 24;
  var REACH_PIXELS = 14;
  var RADIUS_PIXELS = 2.2;
  var RADIUS_OF_FEW = 3.4;
  var FEW = 2e3;
  var LatentMap = class {
    constructor(context, catalogue, shades, open) {
      this.context = context;
      this.catalogue = catalogue;
      this.shades = shades;
      this.open = open;
      [this.x, this.y] = [catalogue.column("x"), catalogue.column("y")];
      const [left, right] = limits(this.x);
      const [low, high] = limits(this.y);
      this.extent = { left, right, low, high };
      this.swatches = shades.classes.map((name) => h("span", { class: `swatch ${name}` }));
      const how = context.manifest?.layout === "umap" ? "UMAP" : "PCA";
      this.canvas.setAttribute("aria-label", `Map of the ${noun(context)}s by ${how} of their decoder rows. Arrow keys go from point to point, Enter opens a ${noun(context)}, + and - zoom, 0 shows all.`);
      this.element = h(
        "figure",
        { class: "chart map-chart" },
        h("figcaption", {}, h("span", {}, `Map of decoder rows (${how})`), h(
          "span",
          { class: "tools" },
          h("button", { type: "button", class: "small", "aria-label": "Zoom in", onclick: () => this.zoom(1.5) }, "+"),
          h("button", { type: "button", class: "small", "aria-label": "Zoom out", onclick: () => this.zoom(1 / 1.5) }, "\u2212"),
          h("button", { type: "button", class: "small", "aria-label": "Show all of the map", onclick: () => this.reset() }, "all"),
          h("button", { type: "button", class: "small", "aria-label": "Save as SVG: map", onclick: () => download("map.svg", this.svg()) }, "SVG")
        )),
        this.canvas,
        h(
          "p",
          { class: "legend" },
          h("span", { class: "scale" }, h("span", {}, shades.low), h("span", { class: "swatches", "aria-hidden": "true" }, this.swatches), h("span", {}, shades.high)),
          h("span", {}, h("span", { class: "swatches" }, this.faint), " not in the table"),
          this.ring
        )
      );
      this.listen();
    }
    context;
    catalogue;
    shades;
    open;
    element;
    canvas = h("canvas", { tabindex: 0, role: "img", class: "map" });
    swatches;
    faint = h("span", { class: "swatch m0" });
    ring = h("span", { class: "swatch ring", hidden: true });
    x;
    y;
    extent;
    chosen = null;
    pointed = -1;
    view = null;
    redraw = eachFrame(() => this.draw());
    /** Sets apart the latents that the table shows. */
    update(rows) {
      this.chosen = new Uint8Array(this.catalogue.size);
      for (const latent2 of rows) this.chosen[latent2] = 1;
      this.redraw();
    }
    listen() {
      const { canvas } = this;
      let from = null;
      new ResizeObserver(this.redraw).observe(canvas);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.redraw);
      document.addEventListener("themechange", this.redraw);
      canvas.addEventListener("pointerdown", (event) => {
        from = { x: event.offsetX, y: event.offsetY, moved: false };
        canvas.setPointerCapture(event.pointerId);
      });
      canvas.addEventListener("pointermove", (event) => {
        if (from && (from.moved || Math.hypot(event.offsetX - from.x, event.offsetY - from.y) > 4)) {
          const { x, y, scale } = this.frame();
          this.view = { x: x - (event.offsetX - from.x) / scale, y: y + (event.offsetY - from.y) / scale, scale };
          from = { x: event.offsetX, y: event.offsetY, moved: true };
          hideTip();
          this.redraw();
        } else this.point(this.nearest(event.offsetX, event.offsetY));
      });
      canvas.addEventListener("pointerup", (event) => {
        const clicked = from && !from.moved;
        from = null;
        const latent2 = this.nearest(event.offsetX, event.offsetY);
        if (clicked && latent2 >= 0) this.open(latent2);
      });
      canvas.addEventListener("pointerleave", () => this.point(-1));
      canvas.addEventListener("blur", () => this.point(-1));
      canvas.addEventListener("wheel", (event) => {
        if (!event.ctrlKey && document.activeElement !== canvas) return;
        event.preventDefault();
        this.zoom(1.0015 ** -event.deltaY, event.offsetX, event.offsetY);
      }, { passive: false });
      canvas.addEventListener("keydown", (event) => this.key(event));
    }
    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (direction) this.point(this.neighbour(direction[0], direction[1]));
      else if (event.key === "Enter" && this.pointed >= 0) this.open(this.pointed);
      else if (event.key === "+" || event.key === "=") this.zoom(1.5);
      else if (event.key === "-") this.zoom(1 / 1.5);
      else if (event.key === "0") this.reset();
      else return;
      event.preventDefault();
      event.stopPropagation();
    }
    reset() {
      this.view = null;
      this.redraw();
    }
    /** Zooms about a place on the canvas, its middle where none is given. */
    zoom(by, px, py) {
      const frame = this.frame();
      const [dx, dy] = [(px ?? frame.width / 2) - frame.width / 2, frame.height / 2 - (py ?? frame.height / 2)];
      const scale = frame.scale * by;
      this.view = { x: frame.x + dx / frame.scale - dx / scale, y: frame.y + dy / frame.scale - dy / scale, scale };
      this.redraw();
    }
    /** The view that was chosen, or else one that holds every point. */
    frame() {
      const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
      if (this.view) return { ...this.view, width, height };
      const { left, right, low, high } = this.extent;
      const scale = Math.min((width - MARGIN_PIXELS) / (right - left || 1), (height - MARGIN_PIXELS) / (high - low || 1));
      return { x: (left + right) / 2, y: (low + high) / 2, scale, width, height };
    }
    place(latent2, frame) {
      return [(this.x[latent2] - frame.x) * frame.scale + frame.width / 2, (frame.y - this.y[latent2]) * frame.scale + frame.height / 2];
    }
    nearest(px, py) {
      const view = this.frame();
      let [best, least] = [-1, REACH_PIXELS ** 2];
      for (let latent2 = 0; latent2 < this.x.length; latent2++) {
        if (this.chosen && !this.chosen[latent2]) continue;
        const [x, y] = this.place(latent2, view);
        const distance = (x - px) ** 2 + (y - py) ** 2;
        if (distance < least) [best, least] = [latent2, distance];
      }
      return best;
    }
    /** The nearest point in a direction: within 45 degrees of it. */
    neighbour(dx, dy) {
      const view = this.frame();
      const [px, py] = this.pointed >= 0 ? this.place(this.pointed, view) : [view.width / 2, view.height / 2];
      let [best, least] = [this.pointed, Infinity];
      for (let latent2 = 0; latent2 < this.x.length; latent2++) {
        if (latent2 === this.pointed || this.chosen && !this.chosen[latent2]) continue;
        const [x, y] = this.place(latent2, view);
        const [along, across] = [(x - px) * dx + (y - py) * dy, Math.abs((x - px) * dy) + Math.abs((y - py) * dx)];
        const distance = along ** 2 + across ** 2;
        if (this.pointed >= 0 && (along <= 0 || across > along)) continue;
        if (distance < least) [best, least] = [latent2, distance];
      }
      return best;
    }
    point(latent2) {
      if (latent2 === this.pointed) return;
      this.pointed = latent2;
      this.canvas.classList.toggle("over", latent2 >= 0);
      this.redraw();
      if (latent2 < 0) return hideTip();
      const box2 = this.canvas.getBoundingClientRect();
      const [x, y] = this.place(latent2, this.frame());
      showAt(box2.left + x + 8, box2.top + y - 8, box2.top + y + 8, summary(this.context, this.catalogue, latent2));
    }
    colour(swatch) {
      return getComputedStyle(swatch).backgroundColor;
    }
    draw() {
      const { canvas } = this;
      const ratio = window.devicePixelRatio || 1;
      const view = this.frame();
      const { width, height } = view;
      [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
      const pen = canvas.getContext("2d");
      if (!pen || !width) return;
      pen.scale(ratio, ratio);
      const radius = this.radius();
      for (let shade = 0; shade <= this.swatches.length; shade++) {
        pen.fillStyle = this.colour(shade ? this.swatches[shade - 1] : this.faint);
        pen.beginPath();
        for (let latent2 = 0; latent2 < this.x.length; latent2++) {
          if (this.shadeOf(latent2) !== shade) continue;
          const [x, y] = this.place(latent2, view);
          if (!(x > -5 && x < width + 5 && y > -5 && y < height + 5)) continue;
          if (this.x.length > FEW) pen.rect(x - radius / 2, y - radius / 2, radius, radius);
          else {
            pen.moveTo(x + radius, y);
            pen.arc(x, y, radius, 0, 2 * Math.PI);
          }
        }
        pen.fill();
      }
      if (this.pointed >= 0) {
        const [x, y] = this.place(this.pointed, view);
        pen.strokeStyle = getComputedStyle(this.ring).color;
        pen.lineWidth = 2;
        pen.beginPath();
        pen.arc(x, y, 7, 0, 2 * Math.PI);
        pen.stroke();
      }
    }
    radius() {
      return this.x.length > FEW ? RADIUS_PIXELS : RADIUS_OF_FEW;
    }
    /** 0 for one that the table does not show. */
    shadeOf(latent2) {
      return this.chosen && !this.chosen[latent2] ? 0 : this.shades.shade[latent2];
    }
    svg() {
      const view = this.frame();
      const { width, height } = view;
      const colours = [this.faint, ...this.swatches].map((swatch) => this.colour(swatch));
      const groups = colours.map((fill2, shade) => {
        const group = s("g", { fill: fill2 });
        for (let latent2 = 0; latent2 < this.x.length; latent2++) {
          const [x, y] = this.place(latent2, view);
          const seen = x > 0 && x < width && y > 0 && y < height;
          if (seen && this.shadeOf(latent2) === shade) group.append(s("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: this.radius() / 1.5 }));
        }
        return group;
      });
      const ground = s("rect", { width, height, fill: getComputedStyle(this.element).backgroundColor });
      const drawing = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height }, s("title", {}, "Map of decoder rows"), ground, groups);
      return new XMLSerializer().serializeToString(drawing);
    }
  };
  function limits(values) {
    let [low, high] = [Infinity, -Infinity];
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    return low <= high ? [low, high] : [0, 1];
  }

  // sae/dashboards/app/src/query.ts
  var KINDS = ["active", "ultra-low", "dead", "all"];
  var PLAIN = { kind: "active", sort: "latent", descending: false, token: "", text: "", explained: false, ranges: {} };
  function parseQuery(parameters) {
    const kind = parameters.get("kind");
    const query = {
      kind: kind && KINDS.includes(kind) ? kind : PLAIN.kind,
      sort: parameters.get("sort") ?? PLAIN.sort,
      descending: parameters.get("order") === "descending",
      token: parameters.get("token") ?? "",
      text: parameters.get("text") ?? "",
      explained: parameters.has("explained"),
      ranges: {}
    };
    for (const [name, value] of parameters) {
      const match = /^(.*)\.\.(.*)$/.exec(value);
      if (match) query.ranges[name] = [number(match[1], -Infinity), number(match[2], Infinity)];
    }
    return query;
  }
  function number(text2, otherwise) {
    return text2.trim() === "" || Number.isNaN(Number(text2)) ? otherwise : Number(text2);
  }
  function formatQuery(query) {
    const parameters = new URLSearchParams();
    if (query.kind !== PLAIN.kind) parameters.set("kind", query.kind);
    if (query.sort !== PLAIN.sort) parameters.set("sort", query.sort);
    if (query.descending) parameters.set("order", "descending");
    if (query.token) parameters.set("token", query.token);
    if (query.text) parameters.set("text", query.text);
    if (query.explained) parameters.set("explained", "");
    for (const [name, [low, high]] of Object.entries(query.ranges)) {
      parameters.set(name, `${Number.isFinite(low) ? shortest(low) : ""}..${Number.isFinite(high) ? shortest(high) : ""}`);
    }
    return parameters.toString();
  }
  function shortest(value) {
    return String(Number(value.toPrecision(4)));
  }
  function kindOf(density, ultraLow) {
    if (!(density > 0)) return "dead";
    return density < ultraLow ? "ultra-low" : "active";
  }
  function kindCounts(catalogue, ultraLow) {
    const counts = { active: 0, "ultra-low": 0, dead: 0, all: catalogue.size };
    for (const density of catalogue.column("density")) counts[kindOf(density, ultraLow)] += 1;
    return counts;
  }
  function select(catalogue, ultraLow, query, found) {
    const density = catalogue.column("density");
    const ranges = Object.entries(query.ranges).filter(([name]) => catalogue.has(name));
    const limits2 = ranges.map(([name, range]) => [catalogue.column(name), ...range]);
    const kept3 = new Uint32Array(catalogue.size);
    let count = 0;
    for (let latent2 = 0; latent2 < catalogue.size; latent2++) {
      if (query.kind !== "all" && kindOf(density[latent2], ultraLow) !== query.kind) continue;
      if (found && !found[latent2]) continue;
      if (query.explained && catalogue.explanation(latent2) === null) continue;
      if (limits2.some(([column, low, high]) => !(column[latent2] >= low && column[latent2] <= high))) continue;
      kept3[count++] = latent2;
    }
    return sorted(catalogue, kept3.subarray(0, count), query);
  }
  var [SIGN, LAST] = [2147483648, 4294967295];
  var MOST_LATENTS = 2 ** 21;
  function sorted(catalogue, latents, { sort, descending }) {
    if (!catalogue.has(sort)) return descending ? latents.reverse() : latents;
    const column = catalogue.column(sort);
    const ranks2 = sort === "effect" ? rankedEffects(column, catalogue.column("effect_exact"), descending) : ranked(column, descending);
    const packed = Float64Array.from(latents, (latent2) => ranks2[latent2] * MOST_LATENTS + latent2).sort();
    return Uint32Array.from(packed, (value) => value % MOST_LATENTS);
  }
  function ranked(column, descending) {
    const bits = new Uint32Array(column.slice().buffer);
    return bits.map((own, at) => {
      if (Number.isNaN(column[at])) return LAST;
      const rank = (own & SIGN ? ~own : own | SIGN) >>> 0;
      return descending ? LAST - 1 - rank : rank;
    });
  }
  function rankedEffects(sizes, exact, descending) {
    const bits = new Uint32Array(sizes.slice().buffer);
    return bits.map((own, at) => {
      if (Number.isNaN(sizes[at])) return LAST;
      const rank = exact[at] === 1 === descending ? (own | SIGN) >>> 0 : own;
      return descending ? LAST - 1 - rank : rank;
    });
  }

  // sae/dashboards/app/src/search.ts
  function tokenTest(wanted) {
    const text2 = wanted.trim().toLowerCase();
    if (/^#\d+$/.test(text2)) return (token2) => token2.id === Number(text2.slice(1));
    const [before, after] = [text2.length > 1 && text2.startsWith("*"), text2.length > 1 && text2.endsWith("*")];
    const core = text2.slice(before ? 1 : 0, after ? -1 : void 0);
    return (token2) => {
      const own = token2.text.trim().toLowerCase();
      if (before && after) return own.includes(core);
      if (after) return own.startsWith(core);
      return before ? own.endsWith(core) : own === core;
    };
  }
  function look(shard, catalogue, token2, text2, found) {
    const test = tokenTest(token2);
    const meant = new Set(shard.strings.flatMap((entry, place2) => test(entry) ? [place2] : []));
    const words2 = text2.trim().toLowerCase();
    for (let i = 0; i < shard.snippets.length; i++) {
      const latent2 = shard.first + i;
      if (token2 && !shard.tokens[i]?.some((place2) => meant.has(place2))) continue;
      if (words2 && !shard.snippets[i].toLowerCase().includes(words2) && !catalogue.explanation(latent2)?.toLowerCase().includes(words2)) continue;
      found[latent2] = 1;
    }
  }
  async function search(manifest, catalogue, token2, text2, progress) {
    if (!token2.trim() && !text2.trim()) return null;
    const found = new Uint8Array(manifest.num_latents);
    const files = Math.ceil(manifest.num_latents / manifest.search_size);
    for (let number2 = 0; number2 < files; number2++) {
      progress(number2, files);
      look(await searchFile(number2), catalogue, token2.trim(), text2, found);
    }
    progress(files, files);
    return found;
  }

  // sae/dashboards/app/src/shades.ts
  var DENSITY_SHADES = 5;
  function densityShades(catalogue) {
    const density = catalogue.column("density");
    const alive = density.filter((value) => value > 0).sort();
    const [lowest, highest] = [alive[Math.floor(alive.length * 0.02)] ?? 0, alive[Math.floor(alive.length * 0.98)] ?? 1];
    const span = Math.log(highest / lowest) || 1;
    const shade = Uint8Array.from(density, (value) => {
      const share = value > 0 ? Math.log(value / lowest) / span : 0;
      return 1 + Math.min(DENSITY_SHADES - 1, Math.max(0, Math.floor(share * DENSITY_SHADES)));
    });
    const classes = Array.from({ length: DENSITY_SHADES }, (_, i) => `m${i + 1}`);
    return { classes, shade, low: `Density ${percent(lowest)}`, high: percent(highest) };
  }
  function layerShades(catalogue, { layers }) {
    const shade = Uint8Array.from(catalogue.column("peak_layer"), (layer) => layer >= 0 ? layerShade(layer, layers.length) : 0);
    const labels = layerLabels(layers);
    const classes = Array.from({ length: LAYER_SHADES }, (_, i) => `l${i + 1}`);
    return { classes, shade, low: `Peak layer: ${labels[0] ?? ""}`, high: labels.at(-1) ?? "" };
  }

  // sae/dashboards/app/src/table.ts
  var ROW_PIXELS = 36;
  var SPARE_ROWS = 8;
  var TALLEST_PIXELS = 8e6;
  var Table = class {
    constructor(columns, name, sortBy) {
      this.columns = columns;
      const heads = columns.map((column) => {
        const button = h("button", { type: "button", class: "sort", onclick: () => sortBy(column.key), "aria-label": `Sort by ${column.name}` }, "\u2195");
        const head = h("div", { role: "columnheader", class: column.numeric ? "cell number" : "cell" }, column.label, button);
        this.buttons.set(column.key, head);
        return head;
      });
      const grid = h("div", { role: "table", class: "grid-table", "aria-label": name }, h("div", { role: "rowgroup", class: "heads" }, h("div", { role: "row", class: "row" }, heads)), this.body);
      grid.style.setProperty("--columns", columns.map(({ width, grows }) => grows ? `minmax(${width}rem, ${grows}fr)` : `${width}rem`).join(" "));
      grid.style.minWidth = `${columns.reduce((sum, { width }) => sum + width, 0)}rem`;
      this.element = h("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": `${name}, scrolls` }, grid);
      const refresh = eachFrame(() => this.refresh());
      this.element.addEventListener("scroll", refresh, { passive: true });
      new ResizeObserver(refresh).observe(this.element);
    }
    columns;
    element;
    body = h("div", { role: "rowgroup", class: "rows" });
    buttons = /* @__PURE__ */ new Map();
    slots = [];
    rows = new Uint32Array();
    current = -1;
    /** Shows these rows; the mark of the order stands at the column it is by. */
    show(rows, sort, descending) {
      this.rows = rows;
      this.current = -1;
      for (const [key, head] of this.buttons) {
        const chosen = key === sort;
        head.setAttribute("aria-sort", chosen ? descending ? "descending" : "ascending" : "none");
        replace(head.querySelector(".sort"), chosen ? descending ? "\u25BC" : "\u25B2" : "\u2195");
      }
      this.element.firstElementChild?.setAttribute("aria-rowcount", String(rows.length + 1));
      this.body.style.height = `${this.height}px`;
      this.element.scrollTop = 0;
      for (const slot of this.slots) slot.at = -1;
      this.refresh();
    }
    /** Goes to the row so many further on, and puts the keyboard there. */
    step(by) {
      if (!this.rows.length) return;
      this.current = Math.min(Math.max(this.current + by, 0), this.rows.length - 1);
      const [view, head] = [this.element.clientHeight, ROW_PIXELS];
      const top = this.topOf(this.current);
      if (top < this.element.scrollTop) this.element.scrollTop = top;
      else if (top + head + ROW_PIXELS > this.element.scrollTop + view) this.element.scrollTop = top + head + ROW_PIXELS - view;
      this.refresh();
      this.slots[this.current % this.slots.length]?.element.querySelector("a")?.focus({ preventScroll: true });
    }
    get height() {
      return Math.min(this.rows.length * ROW_PIXELS, TALLEST_PIXELS);
    }
    /** Pixels that rows are drawn together by where the table is taller than can be. */
    get squeeze() {
      return this.rows.length * ROW_PIXELS / Math.max(this.height, 1);
    }
    topOf(at) {
      return at * ROW_PIXELS / this.squeeze;
    }
    refresh() {
      const seen = Math.ceil(this.element.clientHeight / ROW_PIXELS) + SPARE_ROWS;
      while (this.slots.length < Math.min(seen, this.rows.length)) this.slots.push(this.slot());
      const first = Math.max(0, Math.floor(this.element.scrollTop * this.squeeze / ROW_PIXELS) - SPARE_ROWS / 2);
      const offset = this.squeeze > 1 ? this.element.scrollTop - this.element.scrollTop * this.squeeze : 0;
      const number2 = this.slots.length;
      for (const slot of this.slots) slot.element.hidden = true;
      for (let at = first; at < Math.min(first + number2, this.rows.length); at++) {
        const slot = this.slots[at % number2];
        slot.element.hidden = false;
        slot.element.style.transform = `translateY(${at * ROW_PIXELS + offset}px)`;
        if (slot.at !== at) this.fill(slot, at);
      }
    }
    slot() {
      const cells = this.columns.map((column) => h("div", { role: "cell", class: column.numeric ? "cell number" : "cell" }));
      const element = h("div", { role: "row", class: "row" }, cells);
      element.addEventListener("click", (event) => {
        if (!event.target.closest("a, button")) element.querySelector("a")?.click();
      });
      element.addEventListener("focusin", () => this.current = this.slots.find((slot) => slot.element === element)?.at ?? -1);
      this.body.append(element);
      return { element, cells, at: -1 };
    }
    fill(slot, at) {
      slot.at = at;
      slot.element.setAttribute("aria-rowindex", String(at + 2));
      const row = this.rows[at];
      this.columns.forEach((column, i) => replace(slot.cells[i], ...column.cell(row)));
    }
  };

  // sae/dashboards/app/src/views/level_choice.ts
  var LEVELS3 = [0, 1, 2];
  var LevelChoice = class {
    element;
    buttons;
    layer;
    constructor({ layers }, catalogue, setRange) {
      const of = (name, value) => whole(catalogue.column(name).filter((one) => one === value).length);
      this.buttons = [null, ...LEVELS3].map((level) => {
        const onclick = () => setRange("level", level === null ? null : [level, level]);
        return { level, button: h("button", { type: "button", onclick }, level === null ? "Any" : levelWord(level), level !== null && h("span", { class: "count" }, of("level", level))) };
      });
      this.layer = h(
        "select",
        { "aria-label": "Peak layer", onchange: () => setRange("peak_layer", this.layer.value === "" ? null : [Number(this.layer.value), Number(this.layer.value)]) },
        h("option", { value: "" }, "any"),
        layers.map(({ name }, layer) => h("option", { value: layer }, `${name} (${of("peak_layer", layer)})`))
      );
      this.element = h(
        "div",
        { class: "fields level-choice" },
        h("span", {}, term("level"), " ", h("span", { class: "kinds", role: "group", "aria-label": "Level" }, this.buttons.map(({ button }) => button))),
        h("span", {}, term("peak_layer"), " ", this.layer)
      );
    }
    show(ranges) {
      const single = (range) => range && range[0] === range[1] ? range[0] : null;
      const [level, layer] = [single(ranges["level"]), single(ranges["peak_layer"])];
      for (const one of this.buttons) one.button.setAttribute("aria-pressed", String(one.level === level));
      this.layer.value = layer === null ? "" : String(layer);
    }
  };

  // sae/dashboards/app/src/views/controls.ts
  var TYPING_PAUSE_MS = 250;
  var NUMBERS = ["importance", "density", "max", "mean", "effect", "decoder_norm", "concentration", "entropy", "score"];
  function kindMeans(context, kind, { ultra_low }) {
    const [these, read, share] = [`${noun(context)}s`, factorsInfo(context) ? "vectors" : "tokens", short(ultra_low)];
    return {
      active: `Number of ${these} that are active on a share of at least ${share} of the ${read} read.`,
      "ultra-low": `Number of ${these} that are active, but on a smaller share of the ${read} read than ${share}.`,
      dead: `Number of ${these} that are active on none of the ${read} read.`,
      all: `Number of all ${these}.`
    }[kind];
  }
  var Controls = class {
    constructor(context, catalogue, manifest, change, setRange) {
      this.context = context;
      this.change = change;
      const counts = kindCounts(catalogue, manifest.ultra_low);
      for (const kind of KINDS) {
        const label = `${kind[0].toUpperCase()}${kind.slice(1)}`;
        const button = h("button", { type: "button", onclick: () => change({ kind }) }, label, h("span", { class: "count" }, whole(counts[kind])));
        tip(button, () => [kindMeans(context, kind, manifest)]);
        this.kinds.set(kind, button);
      }
      this.search(this.token, "token");
      this.search(this.text, "text");
      this.explained.addEventListener("change", () => change({ explained: this.explained.checked }));
      const limits2 = NUMBERS.filter((name) => catalogue.has(name)).map((name) => this.limit(name, setRange));
      const info = factorsInfo(context);
      this.levels = info && new LevelChoice(info, catalogue, setRange);
      const clear = h("button", { type: "button", onclick: () => change({ token: "", text: "", explained: false, ranges: {} }) }, "Clear all");
      this.element = h(
        "section",
        { class: "controls", "aria-label": "Search and filters" },
        h("div", { class: "kinds", role: "group", "aria-label": `Which ${noun(context)}s` }, [...this.kinds.values()]),
        this.levels?.element,
        h(
          "div",
          { class: "fields" },
          h("div", { class: "field" }, h("label", { for: "search-token" }, "Fires on token"), this.token),
          h("div", { class: "field wide" }, h("label", { for: "search-text" }, "Text around it, or explanation"), this.text),
          goToForm(noun(context), catalogue.size)
        ),
        h(
          "details",
          { class: "limits" },
          this.summary,
          h("div", { class: "limit-grid" }, limits2),
          h("p", {}, catalogue.explained && h("label", {}, this.explained, " only with an explanation "), clear)
        )
      );
    }
    context;
    change;
    element;
    kinds = /* @__PURE__ */ new Map();
    token = h("input", { type: "search", id: "search-token", autocomplete: "off", spellcheck: "false", placeholder: "the, run*, #42" });
    text = h("input", { type: "search", id: "search-text", autocomplete: "off", spellcheck: "false" });
    explained = h("input", { type: "checkbox" });
    limits = /* @__PURE__ */ new Map();
    summary = h("summary", {}, "Filters");
    levels;
    show(query) {
      for (const [kind, button] of this.kinds) button.setAttribute("aria-pressed", String(kind === query.kind));
      if (document.activeElement !== this.token) this.token.value = query.token;
      if (document.activeElement !== this.text) this.text.value = query.text;
      this.levels?.show(query.ranges);
      this.explained.checked = query.explained;
      for (const [name, inputs] of this.limits) {
        inputs.forEach((input, side) => {
          const value = query.ranges[name]?.[side];
          if (document.activeElement !== input) input.value = value !== void 0 && Number.isFinite(value) ? String(Number(value.toPrecision(4))) : "";
        });
      }
      const active = Object.keys(query.ranges).filter((name) => this.limits.has(name)).length + Number(query.explained);
      replace(this.summary, active ? `Filters (${active})` : "Filters");
    }
    search(input, key) {
      let pause = 0;
      input.addEventListener("input", () => {
        clearTimeout(pause);
        pause = window.setTimeout(() => this.change({ [key]: input.value }), TYPING_PAUSE_MS);
      });
    }
    limit(name, setRange) {
      const make = (words2) => h("input", { type: "text", inputmode: "decimal", size: 8, "aria-label": `${DEFINITIONS[name].name} ${words2}` });
      const inputs = [make("at least"), make("at most")];
      this.limits.set(name, inputs);
      const read = (input, otherwise) => {
        const value = Number(input.value);
        const bad = input.value.trim() !== "" && Number.isNaN(value);
        input.setAttribute("aria-invalid", String(bad));
        return bad || input.value.trim() === "" ? otherwise : value;
      };
      const changed = () => {
        const range = [read(inputs[0], -Infinity), read(inputs[1], Infinity)];
        setRange(name, range.some(Number.isFinite) ? range : null);
      };
      inputs.forEach((input) => input.addEventListener("change", changed));
      return h("div", { class: "limit" }, h("span", {}, term(termOf(noun(this.context), name))), inputs[0], " to ", inputs[1]);
    }
  };

  // sae/dashboards/app/src/views/head.ts
  function indexHead(context, manifest) {
    const info = factorsInfo(context);
    const [facts, more] = info ? ofFactors(manifest, info) : ofLatents(manifest);
    more.push(...Object.entries(manifest.sae).map(([key, value]) => [defined(key) ? term(key) : key, written(value)]), ["Made with", manifest.made_with]);
    return h(
      "div",
      { class: "head" },
      h("h1", { tabindex: -1 }, h("bdi", {}, manifest.title)),
      h("p", { class: "quiet" }, h("bdi", {}, `${manifest.model}, ${info ? `${info.layers[0]?.name} to ${info.layers.at(-1)?.name}` : manifest.hook_point}`)),
      h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      h(
        "details",
        {},
        h("summary", {}, "About this dashboard"),
        h("dl", { class: "about" }, more.map(([name, value]) => [h("dt", {}, name), h("dd", {}, h("bdi", {}, value))])),
        info && tables(info)
      )
    );
  }
  function ofLatents(manifest) {
    const facts = [
      [term("d_sae", "Latents"), whole(manifest.num_latents)],
      [term("dead"), `${whole(manifest.dead)} (${percent(manifest.dead / manifest.num_latents)})`],
      [term("rows"), whole(manifest.rows)],
      [term("documents"), whole(manifest.documents)]
    ];
    return [facts, [["Model", manifest.model], ["Hook point", manifest.hook_point], ...ofText(manifest), ...exactEffects(manifest), [term("ultra_low"), `density below ${short(manifest.ultra_low)}`]]];
  }
  function exactEffects({ exact_effects: found }) {
    if (!found) return [];
    const agreement = found.agreement === null ? "" : `, agreement with their estimates ${short(found.agreement)}`;
    return [[term("exact_effects"), `${whole(found.firings)} firings${agreement}`]];
  }
  function ofFactors(manifest, info) {
    const facts = [
      [term("factor", "Factors"), whole(manifest.num_latents)],
      [term("factor_dead"), `${whole(manifest.dead)} (${percent(manifest.dead / manifest.num_latents)})`],
      [term("layers"), whole(info.layers.length)],
      [term("vectors"), whole(info.layers.reduce((sum, { rows }) => sum + rows, 0))],
      [term("documents"), whole(manifest.documents)]
    ];
    const more = [
      ["Model", manifest.model],
      [term("method"), info.method],
      ...ofText(manifest),
      [term("importance"), `mean of the ${whole(info.importance_top)} strongest activations at a layer`],
      [term("level"), info.level_rule],
      [term("factor_ultra_low"), `density below ${short(manifest.ultra_low)}`],
      ["Saliency", saliencyWords(info.saliency)]
    ];
    return [facts, more];
  }
  function saliencyWords({ method, measured, shown: shown2 }) {
    if (!method) return "not measured; pages are made with it by pages.saliency=leave_one_out_shortlist";
    const words2 = `by ${DEFINITIONS[method].name.toLowerCase()} of ${whole(measured)} of the ${whole(shown2)} contexts shown`;
    return measured === shown2 ? words2 : `${words2}, the strongest; of more by a larger pages.saliency_minutes or pages.saliency_contexts, and of any by serve=true`;
  }
  function ofText(manifest) {
    return [["Text", manifest.source], [term("blocks"), `${whole(manifest.blocks)} of ${whole(manifest.context)} tokens`]];
  }
  function tables({ layers, agreement }) {
    return h(
      "div",
      { class: "charts" },
      card("Layers", ["Layer", term("layer_rows"), term("layer_l0"), term("layer_fvu")], layers.map(({ name, rows, l0, fvu }) => [h("bdi", {}, name), whole(rows), short(l0), short(fvu)]), "h2"),
      card(
        "How far the ways to measure saliency agree",
        ["Ways", term("agreement_contexts"), term("agreement_correlation"), term("agreement_same_top")],
        agreement.map((one) => [[term(one.first), " and ", term(one.second)], whole(one.contexts), short(one.correlation), percent(one.same_top)]),
        "h2"
      )
    );
  }
  function written(value) {
    if (typeof value === "string") return value;
    return Number.isInteger(value) ? whole(value) : short(value);
  }

  // sae/dashboards/app/src/views/list.ts
  var BARS = 60;
  var WIDE = /* @__PURE__ */ new Set(["importance", "decoder_norm", "concentration"]);
  var SHARES = /* @__PURE__ */ new Set(["density", "concentration"]);
  function indexView(context, manifest, catalogue, parameters, keep2) {
    let query = parseQuery(parameters);
    let found = null;
    let rows = new Uint32Array();
    let searches = 0;
    const one = noun(context);
    const info = factorsInfo(context);
    const status = h("p", { class: "status", role: "status" });
    const table = new Table(tableColumns(context, catalogue), info ? "Factors" : "Latents", (key) => {
      const again = query.sort === key;
      change({ sort: key, descending: again ? !query.descending : key !== "latent" && key !== "explanation" });
    });
    const densities = densityHistogram(context, catalogue, (range) => setRange("density", range));
    const shades = info ? layerShades(catalogue, info) : densityShades(catalogue);
    const map = catalogue.has("x") && catalogue.has("y") ? new LatentMap(context, catalogue, shades, (latent2) => location.hash = `#/${one}/${latent2}`) : null;
    const controls = new Controls(context, catalogue, manifest, (part) => change(part), (name, range) => setRange(name, range));
    function setRange(name, range) {
      const ranges = { ...query.ranges };
      delete ranges[name];
      change({ ranges: range ? { ...ranges, [name]: range } : ranges });
    }
    function change(part) {
      const words2 = part.token !== void 0 || part.text !== void 0;
      query = { ...query, ...part };
      keep2(formatQuery(query));
      if (words2) void look2();
      else refresh();
    }
    async function look2() {
      const own = ++searches;
      try {
        const result = await search(manifest, catalogue, query.token, query.text, (done, of) => {
          if (own === searches && done < of) status.textContent = `Searching, file ${done + 1} of ${of}`;
        });
        if (own !== searches) return;
        found = result;
        refresh();
      } catch (error) {
        status.textContent = error.message;
      }
    }
    function refresh() {
      rows = select(catalogue, manifest.ultra_low, query, found);
      table.show(rows, query.sort, query.descending);
      densities.show(rows, query.ranges["density"] ?? null);
      map?.update(rows);
      controls.show(query);
      status.textContent = `${whole(rows.length)} of ${whole(catalogue.size)} ${one}s`;
    }
    const element = h(
      "div",
      { class: "index" },
      indexHead(context, manifest),
      h("div", { class: "charts" }, densities.element, map?.element),
      controls.element,
      status,
      table.element
    );
    controls.show(query);
    if (query.token || query.text) void look2();
    else refresh();
    return { element, step: (by) => table.step(by), order: () => rows };
  }
  function tableColumns(context, catalogue) {
    const own = (key) => termOf(noun(context), key);
    const columns = [
      { key: "latent", name: "number", label: term(noun(context)), width: 5.4, numeric: true, cell: (latent2) => [latentLink(context, latent2)] }
    ];
    const info = factorsInfo(context);
    if (info) columns.push(...factorColumns(info, catalogue));
    if (catalogue.has("top_token")) {
      columns.push({ key: "top_token", name: "top token", label: term(own("top_token")), width: 8, grows: 1, numeric: false, cell: (latent2) => {
        const top = catalogue.topToken(latent2);
        return top ? [token(top.text)] : [];
      } });
    }
    if (catalogue.explained) {
      columns.push({ key: "explanation", name: "explanation", label: term(own("explanation")), width: 13, grows: 4, numeric: false, cell: (latent2) => [h("bdi", {}, catalogue.explanation(latent2) ?? "")] });
    }
    for (const key of NUMBERS.filter((name) => catalogue.has(name))) {
      const write = SHARES.has(key) ? percent : short;
      const cell = (latent2) => [key === "effect" ? effectCell(catalogue, latent2) : write(catalogue.value(key, latent2))];
      columns.push({ key, name: DEFINITIONS[key].name.toLowerCase(), label: key === "effect" ? effectTerm(context.manifest) : term(own(key)), width: WIDE.has(key) ? 8.4 : 6.7, numeric: true, cell });
    }
    return columns;
  }
  function factorColumns({ layers }, catalogue) {
    const labels = layerLabels(layers);
    return [
      { key: "level", name: "level", label: term("level"), width: 6.2, numeric: false, cell: (factor2) => [levelWord(catalogue.value("level", factor2))] },
      { key: "peak_layer", name: "peak layer", label: term("peak_layer"), width: 7.4, numeric: true, cell: (factor2) => [labels[catalogue.value("peak_layer", factor2)] ?? "\u2013"] }
    ];
  }
  function densityHistogram(context, catalogue, brushed) {
    const density = catalogue.column("density");
    const alive = density.filter((value) => value > 0);
    const low = Math.log10(alive.reduce((least, value) => Math.min(least, value), 1)) - 0.02;
    const high = Math.log10(alive.reduce((most, value) => Math.max(most, value), 0) || 1) + 0.02;
    const edges = Array.from({ length: BARS + 1 }, (_, i) => 10 ** (low + (high - low) * i / BARS));
    const place2 = (value) => value > 0 ? (Math.log10(value) - low) / (high - low) * BARS : -1;
    const chart = histogram({
      title: `Density of ${noun(context)}s`,
      bars: { edges, counts: counted(density, edges, place2) },
      unit: `density (share of ${factorsInfo(context) ? "vectors" : "tokens"}), drag to filter`,
      counted: `${noun(context)}s`,
      logValues: true,
      height: 236,
      brushed
    });
    return {
      element: chart.element,
      show: (rows, range) => {
        const part = rows.length < catalogue.size ? counted(Array.from(rows, (latent2) => density[latent2]), edges, place2) : null;
        chart.update(part, range);
      }
    };
  }

  // sae/dashboards/app/src/number_field.ts
  var NumberField = class {
    constructor(label, id, value, fit) {
      this.label = label;
      this.fit = fit;
      this.input = h("input", { id, type: "text", inputmode: fit.low < 0 || !fit.whole ? "text" : "numeric", autocomplete: "off", size: 7, value, "aria-describedby": `${id}-said`, oninput: () => this.say("") });
      this.said = h("small", { id: `${id}-said`, class: "field-said", role: "alert" });
      this.element = h("div", { class: "field" }, h("label", { for: id }, label), this.input, this.said);
    }
    label;
    fit;
    element;
    input;
    said;
    /** The number; null where there is none that fits, which is said, and the keyboard goes there. */
    read() {
      const words2 = this.input.value.trim();
      const value = Number(words2);
      const fits = words2 !== "" && value >= this.fit.low && value <= this.fit.high && (!this.fit.whole || Number.isInteger(value));
      this.say(fits ? "" : `${this.label} is ${words2 === "" ? "empty" : `\u201C${visible(words2, 20)}\u201D`}. Expected ${this.expected()}.`);
      if (!fits) this.input.focus();
      return fits ? value : null;
    }
    expected() {
      const { low, high, whole: isWhole } = this.fit;
      return isWhole ? `a whole number from ${whole(low)} to ${whole(high)}` : `a number from ${short(low)} to ${short(high)}`;
    }
    say(words2) {
      this.said.textContent = words2;
      this.input.setAttribute("aria-invalid", String(words2 !== ""));
    }
  };

  // sae/dashboards/app/src/views/text.ts
  var SHOWN2 = 6;
  var MEASURES = [
    { key: "activation", term: "activation", label: "Activation", write: short, size: (v) => v },
    { key: "quantile", term: "quantile", label: "Quantile", write: percent, size: (v) => v },
    { key: "effect", term: "loss_effect", label: "Loss effect", write: signed, size: Math.abs },
    { key: "logit_effect", term: "logit_effect", label: "Logit effect", write: signed, size: Math.abs }
  ];
  function textView(context, page, { clamp, ablate } = { clamp: null, ablate: null }) {
    const measures = MEASURES.filter(({ key }) => page.tokens.some((entry) => entry.latents.some((latent2) => latent2[key] !== null)));
    let measure = measures[0] ?? MEASURES[0];
    let lit = null;
    let kept3 = null;
    let acts = page.tokens.map(() => 0);
    let largest = 1;
    const exact = page.tokens.map(() => /* @__PURE__ */ new Map());
    const note = h("div", { class: "lit legend" });
    const list2 = h("ol", { class: "token-rows" });
    const line = new TokenLine(page.tokens.map(({ text: text2 }) => text2), 0, (at) => `t a${step(acts[at], largest)}`, details, go);
    const buttons = measures.map((one) => h("button", { type: "button", onclick: () => choose(one) }, one.label));
    function details(at) {
      const entry = page.tokens[at];
      return [
        h("p", {}, written2(entry), ` token ${entry.id}, position ${at}`),
        entry.text === "" && h("p", {}, "ends a character that stands at a token before it"),
        entry.loss !== null && h("p", {}, `loss ${short(entry.loss)} nats`),
        h("p", {}, entry.kept ? `${entry.latents.length} latents listed` : "a special token, on which the SAE is not read"),
        lit !== null && h("p", {}, `latent ${lit}: ${short(activationOf(entry, lit))}`)
      ];
    }
    function go(at) {
      const row2 = list2.children[at];
      row2?.scrollIntoView({ block: "center" });
      row2?.focus({ preventScroll: true });
    }
    function light(latent2) {
      lit = latent2;
      acts = page.tokens.map((entry) => latent2 === null ? 0 : activationOf(entry, latent2));
      largest = Math.max(1e-12, ...acts);
      line.refresh();
      if (latent2 === null) replace(note, "Point at a latent below to colour the text by it; a click on the token beside its number keeps the colours.");
      else replace(note, h("span", {}, "Latent ", latentLink(context, latent2)), scaleLegend(largest), kept3 !== null && h("button", { type: "button", class: "small", onclick: () => keep2(null) }, "take colours off"));
    }
    function keep2(latent2) {
      kept3 = latent2;
      light(latent2);
    }
    function valueOf(entry, at) {
      return (measure.key === "effect" ? exact[at].get(entry.latent) : void 0) ?? entry[measure.key];
    }
    function isMeasured(entry, at) {
      return measure.key === "effect" && exact[at].has(entry.latent);
    }
    function chip(entry, at) {
      const measured = isMeasured(entry, at);
      const gist = visible(context.catalogue?.topToken(entry.latent)?.text.trim() ?? "", 12) || "colour";
      const [on, off] = [() => light(entry.latent), () => light(kept3)];
      return h(
        "li",
        { class: "chip", onpointerenter: on, onpointerleave: off, onfocusin: on, onfocusout: off },
        latentLink(context, entry.latent),
        h("button", { type: "button", class: "gist", "aria-label": `${gist}: keep the text coloured by latent ${entry.latent}`, onclick: () => keep2(entry.latent) }, h("bdi", {}, gist)),
        h("span", { class: "number" }, measure.write(valueOf(entry, at)), measured && " exact"),
        clamp && h("button", { type: "button", class: "small", "aria-label": `Clamp latent ${entry.latent}`, onclick: () => clamp(entry) }, "clamp")
      );
    }
    function row(entry, at) {
      const known = entry.latents.filter((latent2) => valueOf(latent2, at) !== null);
      const first = (latent2) => Number(isMeasured(latent2, at));
      const sorted2 = known.sort((a, b) => first(b) - first(a) || measure.size(valueOf(b, at)) - measure.size(valueOf(a, at)));
      const chips = h("ul", { class: "chips" }, sorted2.slice(0, SHOWN2).map((latent2) => chip(latent2, at)));
      const others = sorted2.length - SHOWN2;
      const more = others > 0 && h("button", { type: "button", class: "small more", onclick: (event) => {
        event.currentTarget.remove();
        sorted2.slice(SHOWN2).forEach((latent2) => chips.append(chip(latent2, at)));
      } }, `${others} more`);
      const place2 = h("span", { class: "place" }, at);
      tip(place2, () => ["Position of the token in the text, from 0, special tokens counted too."]);
      return h(
        "li",
        { tabindex: -1 },
        place2,
        h("span", { class: "row-token" }, written2(entry)),
        h("div", {}, sorted2.length ? [chips, more, measure.key === "effect" && ablate && measureButton(sorted2, at)] : h("span", { class: "quiet" }, entry.kept ? "none" : "special token"))
      );
    }
    function measureButton(latents, at) {
      const button = h("button", { type: "button", class: "small more", "aria-label": `Exact effects of removing the latents at token ${at}` }, "Exact effects");
      button.addEventListener("click", async () => {
        button.disabled = true;
        try {
          const effects = await ablate(at, latents.map(({ latent: latent2 }) => latent2));
          effects.forEach((effect, i) => exact[at].set(latents[i].latent, effect));
          list2.children[at].replaceWith(row(page.tokens[at], at));
        } catch (error) {
          button.replaceWith(h("span", { role: "alert" }, error.message));
        }
      });
      return button;
    }
    function choose(one) {
      measure = one;
      buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(measures[i] === one)));
      replace(list2, page.tokens.map(row));
    }
    light(null);
    choose(measure);
    return h(
      "div",
      { class: "text-page" },
      h("div", { class: "text-box" }, h("div", { class: "text-tokens" }, line.element), note),
      h("div", { class: "bar-title" }, h("h2", {}, "Strongest latents on each token"), h("div", { class: "kinds", role: "group", "aria-label": "Order of latents" }, buttons)),
      h("p", { class: "quiet measures" }, "By ", measures.map((one, i) => [i > 0 && ", ", term(one.term, one.label.toLowerCase())]), page.effects && ["; effects on the loss are estimated to first order", ablate && " until they are measured"], "."),
      list2
    );
  }
  function written2({ text: text2 }) {
    return text2 === "" ? h("bdi", { class: "word" }, running(text2)) : token(text2);
  }
  function activationOf(entry, latent2) {
    return entry.latents.find((one) => one.latent === latent2)?.activation ?? 0;
  }

  // sae/dashboards/app/src/views/live.ts
  function liveView(context, live) {
    const { limits: limits2, steer } = live.hello;
    const text2 = h("textarea", { id: "live-text", rows: 4, spellcheck: "false", maxlength: limits2.characters });
    const said = h("p", { class: "status", role: "status" });
    const result = h("div", {});
    const steering = steer ? new SteeringPanel(context, live, () => text2.value) : null;
    async function read() {
      said.textContent = "Reading";
      try {
        const page = await live.text({ text: text2.value });
        replace(result, textView(context, page, {
          clamp: steering && ((latent2) => steering.add({ latent: latent2.latent, value: latent2.activation * FIRST_CLAMP })),
          ablate: ablation(live, page)
        }));
        said.textContent = `${page.tokens.length} tokens`;
      } catch (error) {
        said.textContent = error.message;
      }
    }
    const form2 = h("form", { class: "live-form", onsubmit: (event) => {
      event.preventDefault();
      void read();
    } }, h("label", { for: "live-text" }, "Text"), text2, h("p", {}, h("button", { type: "submit", class: "main" }, "Show latents")));
    return h(
      "div",
      { class: "live" },
      h("h1", { tabindex: -1 }, "Live"),
      h("p", { class: "quiet" }, h("bdi", {}, `${live.hello.model}, ${live.hello.hook_point}`)),
      form2,
      said,
      steering?.element,
      result
    );
  }
  function ablation(live, page) {
    if (!live.hello.ablate) return null;
    return (position, latents) => live.ablate({ text: page.text, position, latents: latents.slice(0, live.hello.limits.ablations) });
  }
  var LONGEST_CONTINUATION = 1e5;
  var FIRST_CLAMP = 2;
  var [MOST_VALUE, MOST_TEMPERATURE, MOST_SEED] = [1e9, 100, Number.MAX_SAFE_INTEGER];
  var SteeringPanel = class {
    constructor(context, live, text2) {
      this.context = context;
      this.live = live;
      this.text = text2;
      const { d_sae, limits: limits2, defaults } = live.hello;
      this.latent = new NumberField("Latent", "steer-latent", 0, { low: 0, high: d_sae - 1, whole: true });
      this.tokens = new NumberField("Tokens", "steer-tokens", defaults.new_tokens, { low: 1, high: limits2.new_tokens, whole: true });
      this.temperature = new NumberField("Temperature", "steer-temperature", defaults.temperature, { low: 0, high: MOST_TEMPERATURE, whole: false });
      this.seed = new NumberField("Seed", "steer-seed", defaults.seed, { low: 0, high: MOST_SEED, whole: true });
      const add = h("button", { type: "button", onclick: () => this.addTyped() }, "Add clamp");
      const run = h("button", { type: "button", class: "main", onclick: () => void this.run() }, "Continue the text");
      this.element = h(
        "section",
        { class: "card steering", "aria-labelledby": "steer-title" },
        h("h2", { id: "steer-title" }, "Continue with latents clamped"),
        h("p", { class: "quiet" }, "A clamped latent is held at its value on every token, whatever the text says: 0 removes it, and a value below 0, which it never has by itself, steers the other way. At temperature 0 the model takes the likeliest token each time."),
        h("div", { class: "fields" }, this.latent.element, this.value.element, add),
        this.list,
        h("div", { class: "fields" }, this.tokens.element, this.temperature.element, this.seed.element, run),
        this.said,
        this.outcome
      );
      this.show();
    }
    context;
    live;
    text;
    element;
    clamps = [];
    list = h("ul", { class: "clamps" });
    outcome = h("div", { class: "two continuations" });
    said = h("p", { class: "status", role: "status" });
    latent;
    value = new NumberField("Value", "steer-value", 1, { low: -MOST_VALUE, high: MOST_VALUE, whole: false });
    tokens;
    temperature;
    seed;
    add(clamp) {
      const others = this.clamps.filter(({ latent: latent2 }) => latent2 !== clamp.latent);
      const most = this.live.hello.limits.clamps;
      this.said.textContent = others.length < most ? "" : `${whole(most)} latents are clamped, which is the most: take one off first.`;
      if (others.length < most) this.clamps = [...others, clamp];
      this.show();
    }
    addTyped() {
      const [latent2, value] = [this.latent.read(), this.value.read()];
      if (latent2 !== null && value !== null) this.add({ latent: latent2, value });
    }
    show() {
      replace(this.list, this.clamps.map((clamp) => h(
        "li",
        { class: "chip" },
        "latent ",
        latentLink(this.context, clamp.latent),
        ` at ${short(clamp.value)} `,
        h("button", { type: "button", class: "small", "aria-label": `Take off the clamp of latent ${clamp.latent}`, onclick: () => {
          this.clamps = this.clamps.filter((one) => one !== clamp);
          this.show();
        } }, "take off")
      )));
    }
    async run() {
      const [tokens, temperature, seed] = [this.tokens.read(), this.temperature.read(), this.seed.read()];
      if (tokens === null || temperature === null || seed === null) return;
      this.said.textContent = "Writing";
      const request = { text: this.text(), clamps: this.clamps, new_tokens: tokens, temperature, seed };
      try {
        const { own, clamped } = await this.live.steer(request);
        replace(this.outcome, outcome("As the model is", own), outcome("With the clamps", clamped));
        this.said.textContent = "";
      } catch (error) {
        this.said.textContent = error.message;
      }
    }
  };
  function outcome(title, { text: text2, ended }) {
    const end = ended && h("span", { class: "sign named" }, "end");
    return h("div", {}, h("h3", {}, title), h("div", { class: "continuation", dir: "auto" }, shown(text2, true, LONGEST_CONTINUATION), end));
  }

  // sae/dashboards/app/src/app.ts
  var PAGE_BESIDE = /^[\w.-]+\.html$/;
  var App = class {
    constructor(root2) {
      this.root = root2;
    }
    root;
    page = h("div", {});
    main = h("main", { id: "main", tabindex: -1 }, this.page);
    links = h("nav", { "aria-label": "Pages" });
    help = helpBox();
    context = { manifest: null, catalogue: null, live: null, base: "" };
    index = null;
    indexAddress = "#/";
    around = null;
    shows = 0;
    async start() {
      const skip = h("a", { class: "skip", href: "#main", onclick: (event) => {
        event.preventDefault();
        this.main.focus();
      } }, "Skip to the page");
      const help = h("button", { type: "button", class: "quiet-button", "aria-label": "Keys", title: "Keys (?)", onclick: () => this.help.showModal() }, "?");
      replace(this.root, skip, h("header", { class: "top" }, this.links, h("span", { class: "tools" }, lookButton(document.documentElement), help)), this.main, glossary(), this.help);
      startTips(this.root);
      replace(this.page, h("p", { class: "quiet" }, "Reading the dashboard"));
      try {
        this.context.manifest = await manifestFile();
      } catch (error) {
        return this.fail(error);
      }
      this.showLinks();
      window.addEventListener("hashchange", () => void this.show());
      listen({
        step: (by) => this.step(by),
        layer: (by) => stepLayer(this.page, by),
        search: () => this.search("#search-token"),
        goTo: () => this.search("#go-to"),
        index: () => location.hash = this.indexAddress
      }, this.help);
      await Promise.all([this.show(), this.goLive()]);
    }
    get manifest() {
      return this.context.manifest;
    }
    async goLive() {
      this.context.live = await findLive();
      if (!this.context.live) return;
      this.showLinks();
      if (/^#\/(live|latent|factor|words|paths)\b/.test(location.hash)) await this.show();
    }
    showLinks() {
      const { texts, run_page, sweep_page } = this.manifest;
      const here = location.hash.split("/")[1] ?? "";
      const link = (href, words2, current) => h("a", { href, "aria-current": current ? "page" : null }, words2);
      const info = factorsInfo(this.context);
      const live = this.context.live !== null;
      const own = info ? [(live || info.words.length > 0) && link("#/words", "Words", here.startsWith("word")), (live || info.paths.length > 0) && link("#/paths", "Paths", here.startsWith("path"))] : [live && link("#/live", "Live", here === "live")];
      replace(
        this.links,
        link(this.indexAddress, info ? "Factors" : "Latents", here === "" || here.startsWith("?")),
        texts.length > 0 && link("#/texts", "Texts", here.startsWith("text")),
        own,
        [[run_page, "Run"], [sweep_page, "Sweep"]].map(([file2, words2]) => file2 && PAGE_BESIDE.test(file2) && link(file2, words2, false))
      );
    }
    async show() {
      const own = ++this.shows;
      hideTip();
      const [path2 = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?");
      const [page = "", number2 = ""] = path2.split("/");
      try {
        const [title, element] = await this.view(page, number2, query);
        if (own !== this.shows) return;
        document.title = `${title}: ${visible(this.manifest.title, 80)}`;
        replace(this.page, element);
        this.showLinks();
        window.scrollTo(0, 0);
        if (own > 1) this.main.querySelector("h1")?.focus({ preventScroll: true });
      } catch (error) {
        if (own === this.shows) this.fail(error);
      }
    }
    async view(page, number2, query) {
      const info = factorsInfo(this.context);
      const own = info && await factorPage(this.context, info, page, number2, query, (factor2) => this.around = this.neighbours(factor2));
      if (own) return own;
      if (!info && page === "latent") return this.latent(place(number2, this.manifest.num_latents, "latent"));
      if (page === "texts") return ["Texts", this.texts()];
      if (page === "text") return this.text(place(number2, this.manifest.texts.length, "text"));
      if (!info && page === "live") return ["Live", this.context.live ? liveView(this.context, this.context.live) : notLive()];
      if (page === "") return [info ? "Factors" : "Latents", await this.list(query)];
      throw new Error(`There is no page \u201C${visible(page)}\u201D here.`);
    }
    async list(query) {
      this.context.catalogue ??= await readCatalogue(this.manifest);
      if (this.index && this.indexAddress === `#/${query ? `?${query}` : ""}`) return this.index.element;
      this.indexAddress = `#/${query ? `?${query}` : ""}`;
      const keep2 = (words2) => {
        this.indexAddress = `#/${words2 ? `?${words2}` : ""}`;
        history.replaceState(null, "", this.indexAddress);
      };
      this.index = indexView(this.context, this.manifest, this.context.catalogue, new URLSearchParams(query), keep2);
      return this.index.element;
    }
    async latent(latent2) {
      const shard = await latentsFile(Math.floor(latent2 / this.manifest.latents_size));
      const record = shard.latents[latent2 - shard.first];
      if (!record) throw new Error(`Latent ${latent2} is missing from its file.`);
      this.context.catalogue ??= await readCatalogue(this.manifest);
      this.around = this.neighbours(latent2);
      return [latentTitle(record), latentView(this.context, record, shard.strings, this.around)];
    }
    /** Before and after: in the list as it was last filtered and sorted if the latent is in it, else by number. */
    neighbours(latent2) {
      const order = this.index?.order();
      const at = order ? order.indexOf(latent2) : -1;
      if (order && at >= 0) {
        return { previous: order[at - 1] ?? null, next: order[at + 1] ?? null, words: `${(at + 1).toLocaleString("en")} of ${order.length.toLocaleString("en")} listed` };
      }
      const last = this.manifest.num_latents - 1;
      return { previous: latent2 > 0 ? latent2 - 1 : null, next: latent2 < last ? latent2 + 1 : null, words: `0 to ${last.toLocaleString("en")}` };
    }
    texts() {
      return h("div", {}, h("h1", { tabindex: -1 }, "Texts"), h("ul", { class: "texts" }, this.manifest.texts.map((title, number2) => h("li", {}, h("a", { href: `#/text/${number2}` }, h("bdi", {}, visible(title, 200)))))));
    }
    async text(number2) {
      const page = await textFile(number2);
      this.context.catalogue ??= await readCatalogue(this.manifest);
      return [visible(page.title, 80), h("div", {}, h("h1", { tabindex: -1 }, h("bdi", {}, visible(page.title, 200))), textView(this.context, page))];
    }
    step(by) {
      const [page = "", number2 = "", query] = location.hash.replace(/^#\/?/, "").split(/[/?]/);
      const info = factorsInfo(this.context);
      const lists = { text: this.manifest.texts.length, word: info?.words.length, path: info?.paths.length };
      if (page === noun(this.context)) {
        const to = by > 0 ? this.around?.next : this.around?.previous;
        if (to != null) location.hash = `#/${page}/${to}${query ? `?${query}` : ""}`;
      } else if (page === "") this.index?.step(by);
      else {
        const to = Number(number2) + by;
        if (to >= 0 && to < (lists[page] ?? 0)) location.hash = `#/${page}/${to}`;
      }
    }
    /** Puts the keyboard into a field of the page, else of the index. */
    search(field) {
      const focus = () => {
        const input = this.page.querySelector(field);
        input?.focus();
        input?.select();
      };
      if (this.page.querySelector(field)) return focus();
      window.addEventListener("hashchange", () => requestAnimationFrame(focus), { once: true });
      location.hash = this.indexAddress;
    }
    fail(error) {
      const words2 = "This page cannot be shown";
      document.title = this.context.manifest ? `${words2}: ${visible(this.manifest.title, 80)}` : words2;
      replace(this.page, h("h1", { tabindex: -1 }, words2), h("p", { role: "alert" }, error.message), h("p", {}, h("a", { href: "#/" }, "To the index")));
    }
  };
  function notLive() {
    return h("div", {}, h("h1", { tabindex: -1 }, "Live"), h("p", {}, "This page needs the model: start it with \u201Cpython scripts/dashboard.py from=PATH serve=true\u201D, where PATH is the folder of the run or of the SAE."));
  }

  // sae/dashboards/app/src/mount.ts
  async function mount(element, options) {
    const context = { manifest: options.manifest ?? null, catalogue: null, live: null, base: options.base ?? null };
    const view = options.view === "latent" ? await latent(context, options) : await text(context, options);
    element.classList.add("sae-dashboard", "mounted");
    setLook(document.documentElement, options.look ?? "system");
    replace(element, h("main", {}, view), glossary());
    startTips(element);
  }
  async function latent(context, { data, latent: number2 }) {
    const shard = await unpacked(data);
    const record = shard.latents.find((one) => one.latent === number2);
    if (!record) throw new Error(`dashboard.mount: the data holds no latent ${number2}.`);
    return latentView(context, record, shard.strings, null);
  }
  async function text(context, { data }) {
    const page = await unpacked(data);
    return h("div", {}, h("h1", { tabindex: -1 }, h("bdi", {}, visible(page.title, 200))), textView(context, page));
  }

  // sae/dashboards/app/src/main.ts
  var root = document.getElementById("dashboard");
  if (root) void new App(root).start();
  return __toCommonJS(main_exports);
})();
