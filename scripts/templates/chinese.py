"""Titles, groups, fields and notes of the workflows in Simplified Chinese, which editor/template_texts.js shows.

What other commands find a node by stays English: its title in the file. Prompts stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from preparation.installation import ROOT

GROUPS: Mapping[str, str] = {
    "1 · Model and photos": "1 · 模型和照片",
    "1 · Model and concept": "1 · 模型和概念",
    "1 · Model and file": "1 · 模型和文件",
    "1 · Model, concept and photos": "1 · 模型、概念和照片",
    "2 · Learn it": "2 · 学习",
    "2 · A rare word, and other dogs": "2 · 生僻词与其他的狗",
    "2 · Say everything but the dog": "2 · 描述狗以外的一切",
    "1 · Model and pictures": "1 · 模型和图像",
    "2 · Say what they show": "2 · 描述画面内容",
    "2 · Two concepts, drawn alike": "2 · 两个概念，同样绘制",
    "3 · Side by side": "3 · 并排比较",
    "4 · Let people vote": "4 · 请人投票",
    "4 · How good is it?": "4 · 效果如何？",
    "5 · How near is it?": "5 · 有多接近？",
    "2 · Use it in any prompt": "2 · 用于任意提示词",
    "2 · Draw and score": "2 · 绘制并评分",
    "2 · Three saved steps, drawn and scored": "2 · 绘制三个已保存的步骤并评分",
    "2 · Two prompts": "2 · 两个提示词",
    "2 · Three words, drawn and watched": "2 · 绘制三个词并观察",
    "2 · Your prompt": "2 · 您的提示词",
    "3 · Learn it": "3 · 学习",
    "3 · Learn its looks": "3 · 学习外观",
    "3 · Use it in any prompt": "3 · 用于任意提示词",
    "3 · How good is it?": "3 · 效果如何？",
    "3 · Which is best?": "3 · 哪个最好？",
    "3 · Draw both, watched": "3 · 绘制两者并观察",
    "3 · Refine it": "3 · 优化",
    "3 · What they attend to": "3 · 它们关注什么",
    "4 · Use it in any prompt": "4 · 用于任意提示词",
    "4 · What they attend to": "4 · 它们关注什么",
    "4 · Draw both, watched": "4 · 绘制两者并观察",
    "5 · What they attend to": "5 · 它们关注什么",
}
TITLES: Mapping[str, str] = {
    "What to do": "操作说明",
    "Your photos": "您的照片",
    "A word for each layer": "每层一个词",
    "One method": "一种方法",
    "Another method": "另一种方法",
    "One method, drawn": "一种方法，绘制",
    "Another method, drawn": "另一种方法，绘制",
    "One method (pictures)": "一种方法（图像）",
    "Another method (pictures)": "另一种方法（图像）",
    "Pictures of one style": "同一风格的图像",
    "What each picture shows": "每张图像的内容",
    "A word for the style": "代表风格的词",
    "Style score (Ctrl+B)": "风格评分（Ctrl+B）",
    "Vote Results (Ctrl+B)": "投票结果（Ctrl+B）",
    "Draw both": "绘制两者",
    "Draw and score both": "绘制两者并评分",
    "All of one size": "统一大小",
    "As one batch": "合为一个批次",
    "Photos of one person": "一个人的照片",
    "Your concept (pictures)": "您的概念（图像）",
    "PhotoMaker (pictures)": "PhotoMaker（图像）",
    "FLUX.2 klein (pictures)": "FLUX.2 klein（图像）",
    "Scores of FLUX.2 klein": "FLUX.2 klein 的评分",
    "FLUX.2 klein's words": "FLUX.2 klein 的词",
    "The first photo": "第一张照片",
    "Scores of your concept": "您的概念的评分",
    "Scores of PhotoMaker": "PhotoMaker 的评分",
    "PhotoMaker's words": "PhotoMaker 的词",
    "Auto masks (Ctrl+B)": "自动蒙版（Ctrl+B）",
    "Scores of the last one": "最后一个的评分",
    "Your prompt": "您的提示词",
    "What to avoid": "要避免的内容",
    "Stage 1 · a word": "第一阶段 · 一个词",
    "Stage 1 · a word for it": "第一阶段 · 代表它的词",
    "Stage 2 · its looks": "第二阶段 · 它的外观",
    "Stage 2 · where it looks": "第二阶段 · 关注的位置",
    "Stage 3 · its looks": "第三阶段 · 它的外观",
    "Its looks": "它的外观",
    "A rare word": "生僻词",
    "Other dogs": "其他的狗",
    "Draw other dogs": "绘制其他的狗",
    "Draw it": "绘制",
    "Your dog's photos": "您的狗的照片",
    "Your cat's photos": "您的猫的照片",
    "A word for your dog": "代表您的狗的词",
    "A word for your cat": "代表您的猫的词",
    "The looks of both": "两者的外观",
    "Both in one picture": "同在一张图像中",
    "Before": "训练前",
    "After": "训练后",
    "Before (pictures)": "训练前（图像）",
    "After (pictures)": "训练后（图像）",
    "One file to share": "一个可分享的文件",
    "What the file says": "文件的说明",
    "With your concept": "使用您的概念",
    "With its kind": "使用其类别",
    "Your concept": "您的概念",
    "Its kind": "其类别",
    "A near word": "相近的词",
    "Side by side": "并排比较",
    "Concept above, its kind below": "上为概念，下为其类别",
    "Share of each token": "各词元的占比",
    "Step by step": "逐步画面",
    "Refined for this prompt": "为此提示词优化",
    "What was refined": "优化了什么",
    "As it is": "原样",
    "Refined": "优化后",
    "As it is above, refined below": "上为原样，下为优化后",
    "As it is (pictures)": "原样（图像）",
    "Refined (pictures)": "优化后（图像）",
    "Draw and score": "绘制并评分",
    "One picture at a time": "每次一张图像",
    "Scores": "评分",
    "Concept against prompt": "概念与提示词的对照",
    "Table": "表格",
    "Saved step 1": "已保存的步骤 1",
    "Saved step 2": "已保存的步骤 2",
    "Saved step 3": "已保存的步骤 3",
    "Step 100": "第 100 步",
    "Step 200": "第 200 步",
    "Step 300": "第 300 步",
    "Which is best?": "哪个最好？",
}
FIELDS: Mapping[str, str] = {"Checkpoint": "Checkpoint（模型文件）", "Folder of photos": "照片文件夹"}
NOTES: Mapping[str, str] = {
    "The same prompt and seed with three words. Columns of *other* words should look alike; where your concept's row "
    "differs, that word is ignored. Another concept? Copy a row, and connect **rows** to its **above**.": (
        "提示词和种子相同，换用三个词。*其他*词的列应当相似；您的概念那一行若有不同，那个词就被忽略了。要加另一个"
        "概念？复制一行，将 **rows** 连接到它的 **above**。"
    ),
    "1. Choose your checkpoint; **Upload photos …**, about four, or choose their folder.\n"
    "2. Name it, and say what it is.\n"
    "3. **Run**. Then write **embedding:my-dog** in any prompt.": (
        "1. 选择您的 Checkpoint；按 **上传照片…** 上传四张左右的照片，或选择它们的文件夹。\n"
        "2. 取一个名称，并写明它是什么。\n"
        "3. **运行**。之后在任意提示词中写 **embedding:my-dog**。"
    ),
    "An embedding, then its looks as a LoRA; right: without and with it. With 16 GB choose *CoRe stage 2* as "
    "**Method (fills in)** for the published full weights.\n\n"
    "One node for both: search *CoRe in two stages*.": (
        "先学一个嵌入，再把外观学成 LoRA；右侧为不用和使用它的对比。有 16 GB 显存时，可将 "
        "**方法（填入数值）** 选为 *CoRe stage 2*，"
        "即论文公布的完整权重。\n\n"
        "一个节点完成两者：搜索 *CoRe in two stages*。"
    ),
    "An embedding for each, then one LoRA that knows both. *Also Train* brings the second; **{}** is the first "
    "in your prompt, **{2}** the second.\n\nA third? One more *Also Train*, into **also** of the first.": (
        "先为每个学一个嵌入，再学一个认识两者的 LoRA。*同时训练*带来第二个；提示词中 **{}** 是第一个，**{2}** "
        "是第二个。\n\n还有第三个？再加一个*同时训练*，连接到前一个的 **同时训练** 输入。"
    ),
    "For SDXL and its fine-tunes, from 12 GB. Photos of 1024 pixels or more are best.\n\n"
    "Black pictures? Take a VAE made for fp16 (*Load VAE*). 8 GB? Set **Part kept in main memory** to 1 in "
    "both trainings.": (
        "用于 SDXL 及其微调模型，需 12 GB 以上显存。照片最好有 1024 像素或更多。\n\n"
        "图像全黑？请用为 fp16 制作的 VAE（*加载VAE*）。只有 8 GB？在两次训练中都将 **留在主内存的部分** 设为 1。"
    ),
    "An embedding before *dog*, then where it looks, then its looks (Pang et al. 2024).\n\n"
    "Set as LoRAs for 8 GB. With 24 GB choose **Method (fills in)** again in both last stages for the "
    "published full weights.": (
        "先学 *dog* 前面的嵌入，再学关注的位置，最后学外观（Pang et al. 2024）。\n\n"
        "已设为 8 GB 可用的 LoRA。有 24 GB 时，在后两个阶段重新选择 **方法（填入数值）** ，即得到论文公布的完整权重。"
    ),
    "Teaches a rare word: *sks dog* (Ruiz et al. 2023). Dogs of the model itself, drawn first, keep other dogs as "
    "they are. The paper takes 200: raise **batch_size** of *Draw other dogs*.": (
        "训练一个生僻词：*sks dog*（Ruiz et al. 2023）。先画出模型自己的狗，使其他的狗保持原样。论文用 200 张：在"
        "“绘制其他的狗”中提高 **batch_size**。"
    ),
    "Trains keys and values of cross-attention, and the word *ktn* along (Kumari et al. 2023). Dogs of the model "
    "itself, drawn first, keep other dogs as they are. The paper takes 200.": (
        "训练交叉注意力的键和值，并同时训练 *ktn* 这个词（Kumari et al. 2023）。先画出模型自己的狗，使其他的狗保"
        "持原样。论文用 200 张。"
    ),
    "Four photos on one sofa teach the sofa. A caption tells everything *but* your dog (SID, Kim et al. 2024): one "
    "line per photo, in their order. Or connect a vision-language model.": (
        "同一张沙发上的四张照片会把沙发也教给模型。描述说明您的狗*以外*的一切（SID，Kim et al. 2024）：每张照片一"
        "行，按照片的顺序。也可以连接视觉语言模型。"
    ),
    "Which method suits your concept and your model? Choose one in each training: its published values fill in. The "
    "same photos, prompt and seed.\n\nXTI and NeTI have a template of their own.": (
        "哪种方法适合您的概念和模型？在每次训练中各选一种：会填入其公布的值。照片、提示词和种子相同。\n\n"
        "XTI 和 NeTI 有自己的模板。"
    ),
    "Each layer of the U-Net has an embedding of its own (XTI), or a small network gives it by layer and "
    "timestep (choose **Method** *NeTI*); the model stays untouched. *Apply Concept* draws it.": (
        "U-Net 的每一层都有自己的嵌入（XTI），或由一个小网络按层和时间步给出（将 **方法** 选为 *NeTI*）；"
        "模型不变。由*应用概念*"
        "画出。"
    ),
    "Put the file into ComfyUI's **models/loras** and press **r**. Choose the checkpoint that it was made "
    "for, then the "
    "file. **Run**.": (
        "将文件放入 ComfyUI 的 **models/loras**，按 **r**。选择它所对应的 Checkpoint，再选择该文件。**运行**。"
    ),
    "The same prompt and seed, with your concept and with its kind. A concept that takes much more than its kind "
    "leaves less for the other words.": (
        "提示词和种子相同，分别使用您的概念和其类别。如果概念得到的注意力远多于其类别，留给其他词的就少。"
    ),
    "The same prompt and seed, as it is and refined for this prompt. A low line in the chart, or a small share in the "
    "maps, is a word that is ignored. Still ignored? Raise **Steps** to 20 or 50.": (
        "提示词和种子相同，分别为原样和为此提示词优化后。图表中偏低的线，或注意力图中偏小的占比，就是被忽略的词。"
        "仍被忽略？将 **步数** 提高到 20 或 50。"
    ),
    "How much of your dog, and how much of the prompts? Scoring needs CLIP and DINO: switch **Allow downloads** on "
    "once (about 700 MB).": (
        "有几分像您的狗，又有几分符合提示词？评分需要 CLIP 和 DINO：打开一次 **允许下载**（约 700 MB）。"
    ),
    "A training saves its embedding on the way (**Save every … steps**). Choose three of those files: each draws the "
    "same prompts and is scored. Switch **Allow downloads** on once for CLIP and DINO.": (
        "训练会在途中保存它的嵌入（ **每隔几步保存** ）。选择其中三个文件：每个都绘制相同的提示词并评分。打开一次 "
        "**允许下载** 以取得 CLIP 和 DINO。"
    ),
    "Say all that each picture shows, one line per picture: the style is what is left.\n\n"
    "For the style score click it, press Ctrl+B, and switch **Allow downloads** on.": (
        "描述每张图像中的一切，每张一行：剩下的就是风格。\n\n"
        "要得到风格评分，点击该节点，按 Ctrl+B，并打开 **允许下载**。"
    ),
    "*Blind Vote* writes a page: give it to people. Put the CSV files that they save into ComfyUI's **input**, press "
    "**r**, click *Vote Results*, Ctrl+B, choose the vote, and Run.": (
        "*盲评投票*会写出一个页面：请发给别人。将他们保存的 CSV 文件放入 ComfyUI 的 **input**，按 **r**，"
        "点击*投票结果*，"
        "按 Ctrl+B，选择该投票并运行。"
    ),
    "SDXL. PhotoMaker draws people from photos, untrained (ComfyUI uses its encoder, not its LoRA). Switch "
    "**Allow downloads** on once for CLIP and DINO; for faces fill in **Face model**.": (
        "SDXL。PhotoMaker 不经训练，由照片绘制人物（ComfyUI 使用其编码器，不用其 LoRA）。打开一次 **允许下载** 以"
        "取得 CLIP 和 DINO；要比较人脸，请填写 **人脸模型**。"
    ),
    "FLUX.2 klein (4 steps) edits your first photo, untrained. In its prompts stands *dog from image 1*: write "
    "what yours is. Switch **Allow downloads** on once for CLIP and DINO.": (
        "FLUX.2 klein（4 步）不经训练，直接编辑您的第一张照片。它的提示词中写的是 *dog from image 1*："
        "请写上您的是什么。"
        "打开一次 **允许下载** 以取得 CLIP 和 DINO。"
    ),
}
TEXTS: Mapping[str, str] = {**GROUPS, **TITLES, **FIELDS, **NOTES}


def texts(workflow: Mapping[str, Any]) -> Iterator[str]:
    """What a workflow's file says to its reader: titles of groups and nodes, labels of fields, and notes."""
    for graph in (workflow, *workflow.get("definitions", {}).get("subgraphs", [])):
        yield from (group["title"] for group in graph["groups"])
        yield from (node["title"] for node in graph["nodes"] if "title" in node)
        fields = [socket for node in graph["nodes"] for socket in node["inputs"] if "widget" in socket]
        yield from (field["label"] for field in fields if "label" in field)
        yield from (node["widgets_values"][0] for node in graph["nodes"] if node["type"] == "MarkdownNote")


def translated(workflow: Mapping[str, Any]) -> dict[str, Any]:
    """The workflow with its translations in it. Raises KeyError for a text that has none."""
    chinese = {text: known_texts()[text] for text in texts(workflow)}
    return {**workflow, "extra": {**workflow["extra"], "core_personalization": {"texts": {"zh": chinese}}}}


@cache
def known_texts() -> dict[str, str]:
    """`TEXTS`, and what inputs of our nodes are called."""
    english, chinese = (
        json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text("utf-8")) for language in ("en", "zh")
    )
    inputs = {
        told["name"]: chinese[node]["inputs"][name]["name"]
        for node, texts in english.items()
        for name, told in texts.get("inputs", {}).items()
        if "name" in told
    }
    return {**inputs, **TEXTS}
