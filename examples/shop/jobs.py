"""The jobs of a small shop: what is too slow, or too likely to fail, for a web request."""

import hashlib
import os
import smtplib
import urllib.request
from email.message import EmailMessage
from pathlib import Path

from dbbasic_queue import current_job

SMTP_HOST = os.environ.get("SHOP_SMTP_HOST", "localhost")
SMTP_PORT = int(os.environ.get("SHOP_SMTP_PORT", "25"))


def send_mail(payload):
    """Send a mail. The job's id is its Message-ID, so that a repeat can be told from a new one."""
    message = EmailMessage()
    message["From"] = "shop@example.com"
    message["To"] = payload["to"]
    message["Subject"] = payload["subject"]
    message["Message-ID"] = f"<{current_job().id}@example.com>"
    message.set_content(payload["body"])
    with smtplib.SMTP(SMTP_HOST, SMTP_PORT, timeout=10) as smtp:
        smtp.send_message(message)
    return {"sent_to": payload["to"]}


def checksum_report(payload):
    """Write the SHA-256 of every file below a folder, in the form that `sha256sum -c` reads."""
    folder, report = Path(payload["folder"]), Path(payload["report"])
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path}\n"
        for path in sorted(folder.rglob("*.py"))
    ]
    report.write_text("".join(lines))
    return {"files": len(lines), "report": str(report)}


def call_partner(payload):
    """Tell a partner's web service. When it is down, the exception makes the job be retried."""
    with urllib.request.urlopen(payload["url"], timeout=10) as answer:
        return {"status": answer.status, "answer": answer.read().decode()}


HANDLERS = {
    "send_mail": send_mail,
    "checksum_report": checksum_report,
    "call_partner": call_partner,
}
