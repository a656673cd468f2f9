"""Everything that the configuration names for alarms ([alarms]): a webhook, mail, both or nothing."""

from __future__ import annotations

from collections.abc import Callable

from nomad.alarm.mail import Mail, MailServer
from nomad.alarm.outbox import Outbox
from nomad.alarm.webhook import Webhook
from nomad.config import Config, secret, split_host_port
from nomad.ports import Alarm

PORTS = {"starttls": 587, "tls": 465, "none": 25}


class AlarmDesk:
    """Implements `ports.Notifier`, from `start` to `stop`."""

    def __init__(self, config: Config, *, failed: Callable[[str], None] = lambda name: None) -> None:
        """`failed` hears "webhook" or "mail" for every alarm that was given up. Raises `ConfigError`."""
        table = config.alarms
        self._boxes: list[Outbox] = []
        if table.webhook:
            key = secret(config, table.webhook_secret_file, "NOMAD_WEBHOOK_SECRET")
            webhook = Webhook(table.webhook, key=key, timeout_s=table.timeout_s, node=config.domain)
            self._boxes.append(Outbox("webhook", webhook.send, tries=table.tries, failed=failed))
        if table.smtp:
            host, port = split_host_port(table.smtp, PORTS[table.smtp_security])
            password = secret(config, table.smtp_password_file, "NOMAD_SMTP_PASSWORD") if table.smtp_user else b""
            server = MailServer(
                host,
                port,
                table.smtp_security,
                user=table.smtp_user,
                password=password.decode("utf-8", "surrogateescape"),
                timeout_s=table.timeout_s,
                ca_file=str(config.path(table.smtp_ca_file)) if table.smtp_ca_file else "",
            )
            mail = Mail(server, sender=table.mail_from, recipients=table.mail_to, node=config.domain)
            self._boxes.append(Outbox("mail", mail.send, tries=table.tries, failed=failed))

    def start(self) -> None:
        """Begin to send."""
        for box in self._boxes:
            box.start()

    async def stop(self) -> None:
        """Send nothing more."""
        for box in self._boxes:
            await box.stop()

    def tell(self, alarm: Alarm) -> None:
        """Send it to everybody named."""
        for box in self._boxes:
            box.tell(alarm)

    async def settled(self) -> None:
        """Return when every alarm so far was sent, or given up."""
        for box in self._boxes:
            await box.settled()
