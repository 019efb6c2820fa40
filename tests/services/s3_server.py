"""Run by .venv-client-s3: a server of S3's protocol on loopback that holds a bucket and asks for credentials: `python s3_server.py FILE`.

Prints one line, {"url", "key", "secret"}, and serves until its stdin is closed. FILE is stored as bucket/models/NAME.onnx and, with
another beside it, below bucket/folder.
"""

import json
import os
import sys
import urllib.request
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

MAY_READ = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"]}
    ],
}


def main(file: Path) -> None:
    os.environ |= {"AWS_ACCESS_KEY_ID": "owner", "AWS_SECRET_ACCESS_KEY": "owner", "AWS_DEFAULT_REGION": "us-east-1"}
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    s3, iam = (boto3.client(name, endpoint_url=url) for name in ("s3", "iam"))
    s3.create_bucket(Bucket="bucket")
    for key, content in (
        ("models/mlp.onnx", file.read_bytes()),
        ("folder/1/model.onnx", file.read_bytes()),
        ("folder/notes.txt", b"a"),
        ("models/large.onnx", b"\0" * (6 << 20)),
    ):
        s3.put_object(Bucket="bucket", Key=key, Body=content)
    iam.create_user(UserName="reader")
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=json.dumps(MAY_READ))
    made = iam.create_access_key(UserName="reader")["AccessKey"]
    # From now on who asks must sign, and may do what a policy allows.
    asked = urllib.request.Request(f"{url}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}, method="POST")
    urllib.request.urlopen(asked).read()
    print(json.dumps({"url": url, "key": made["AccessKeyId"], "secret": made["SecretAccessKey"]}), flush=True)
    sys.stdin.read()
    server.stop()


main(Path(sys.argv[1]))
