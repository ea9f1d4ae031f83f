# Salus in a container: not root, nothing to write but the two volumes, and no key beside the data.
FROM python:3.11-slim

RUN useradd --create-home --uid 10001 salus
WORKDIR /opt/salus
COPY requirements.lock pyproject.toml README.md ./
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check -r requirements.lock
COPY conformance conformance
COPY terminology terminology
COPY smart_auth smart_auth
COPY fhir_server fhir_server
COPY adapters adapters
COPY telehealth_ext telehealth_ext
COPY salus salus
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && install -d -o salus -g salus -m 700 /var/lib/salus/data /var/lib/salus/keys

USER salus
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    SALUS_DATA=/var/lib/salus/data \
    SALUS_KEYS=/var/lib/salus/keys
VOLUME ["/var/lib/salus/data", "/var/lib/salus/keys"]
EXPOSE 8080
STOPSIGNAL SIGTERM
# Beyond its own loopback address it serves only with a certificate (SALUS_TLS_CERT, SALUS_TLS_KEY)
# or behind a proxy that has one (SALUS_BEHIND_PROXY): docker-compose.yml shows the latter.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-m", "salus.healthy"]
ENTRYPOINT ["salus"]
CMD ["serve"]
