"""A small OpenAI-compatible server for tests: fake_server.py PORT_FILE [KEY]. It answers a question about a hidden
number by looking it up in the prompt, counts a token for every four bytes, and refuses prompts with the word REFUSE."""
import http.server
import json
import os
import re
import sys

KEY = sys.argv[2] if len(sys.argv) > 2 else None


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def allowed(self):
        if KEY is None or self.headers.get("Authorization") == "Bearer " + KEY:
            return True
        self.answer(401, {"error": {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}})
        return False

    def do_GET(self):
        if self.allowed():
            self.answer(200, {"object": "list", "data": [{"id": "fake", "object": "model"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.allowed():
            return
        if self.path == "/tokenize":
            self.answer(200, {"tokens": [0] * (len(body["content"].encode()) // 4 + 1)})
            return
        assert self.path == "/v1/completions" and body["temperature"] == 0 and body["model"] == "fake"
        prompt = body["prompt"]
        if "REFUSE" in prompt:
            self.answer(400, {"error": {"code": 400, "message": "the request exceeds the available context size"}})
            return
        key = re.search(r"The ([\w ]+) is:$", prompt)[1]
        number = re.search(rf"The {key} is: (\d+)", prompt)
        self.answer(200, {"choices": [{"index": 0, "text": f" {number[1] if number else 'unknown'}.\n", "finish_reason": "stop"}],
                          "usage": {"prompt_tokens": len(prompt) // 4 + 1, "completion_tokens": 5}})


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
with open(sys.argv[1] + ".part", "w", encoding="ascii") as file:
    file.write(str(server.server_port))
os.rename(sys.argv[1] + ".part", sys.argv[1])
server.serve_forever()
