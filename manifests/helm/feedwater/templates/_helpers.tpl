{{/* What it is, in labels. */}}
{{- define "feedwater.app" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 42 | trimSuffix "-" }}
{{- end }}

{{/* The name of everything. A release called feedwater is not feedwater-feedwater. Short enough for a suffix within the 63 that a Service may have. */}}
{{- define "feedwater.name" -}}
{{- $app := include "feedwater.app" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains $app .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $app | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "feedwater.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "feedwater.name" .) }}
{{- else }}
{{- required "serviceAccount.create=false needs serviceAccount.name: the ServiceAccount that you have made" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* What a cluster-wide object is called: two releases in two namespaces are two. */}}
{{- define "feedwater.clusterName" -}}
{{- if eq .Release.Namespace "feedwater-system" }}{{ include "feedwater.name" . }}{{ else }}{{ printf "%s-%s" .Release.Namespace (include "feedwater.name" .) }}{{ end }}
{{- end }}

{{- define "feedwater.selector" -}}
app.kubernetes.io/name: {{ include "feedwater.app" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "feedwater.labels" -}}
{{ include "feedwater.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "feedwater.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* What the operator may do with its kinds and Events, in the cluster or in its namespace. */}}
{{- define "feedwater.rules" -}}
- apiGroups: [feedwater.dev]
  resources: [prefectworkspaces, tableausites, flowdeployments, extractrefreshes]
  verbs: [get, list, watch, patch]
- apiGroups: [feedwater.dev]
  resources: [prefectworkspaces/status, tableausites/status, flowdeployments/status, extractrefreshes/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
