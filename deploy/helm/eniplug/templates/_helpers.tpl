{{- define "eniplug.labels" -}}
app.kubernetes.io/name: eniplug
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "eniplug.selector" -}}
app.kubernetes.io/name: eniplug
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "eniplug.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* host:port, with an IPv6 address in brackets */ -}}
{{- define "eniplug.metricsAddress" -}}
{{- if contains ":" .Values.metrics.address -}}
[{{ .Values.metrics.address }}]:{{ .Values.metrics.port }}
{{- else -}}
{{ .Values.metrics.address }}:{{ .Values.metrics.port }}
{{- end -}}
{{- end }}

{{- /* What kubelet asks: the address that the agent listens on, or loopback for all */ -}}
{{- define "eniplug.probeHost" -}}
{{- if eq .Values.metrics.address "0.0.0.0" -}}
127.0.0.1
{{- else if eq .Values.metrics.address "::" -}}
::1
{{- else -}}
{{ .Values.metrics.address }}
{{- end -}}
{{- end }}

{{- define "eniplug.env" -}}
envFrom:
  - configMapRef:
      name: eniplug
env:
  - name: ENIPLUG_METRICS_ADDR
    value: {{ include "eniplug.metricsAddress" . | quote }}
  {{- if .Values.kubernetes.enabled }}
  - name: MY_NODE_NAME
    valueFrom:
      fieldRef:
        fieldPath: spec.nodeName
  {{- end }}
  {{- if .Values.conflist }}
  - name: ENIPLUG_CONFLIST
    value: /etc/eniplug/10-eniplug.conflist
  {{- end }}
  {{- if .Values.readAwsConfigMap }}
  {{- range $key := list "warm-prefix-target" "warm-ip-target" "minimum-ip-target" }}
  - name: {{ $key | upper | replace "-" "_" }}
    valueFrom:
      configMapKeyRef:
        name: amazon-vpc-cni
        key: {{ $key }}
        optional: true
  {{- end }}
  {{- end }}
{{- end }}
