{{/* Names and labels. */}}
{{- define "inpo.name" -}}
{{- if eq .Release.Name .Chart.Name }}{{ .Release.Name }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "inpo.queue" -}}
{{ .Values.queueNamespace | default (include "inpo.name" .) }}
{{- end }}

{{- define "inpo.selector" -}}
app.kubernetes.io/name: inpo
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "inpo.labels" -}}
app.kubernetes.io/name: inpo
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "inpo.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "inpo.labels" (dict "root" .root "component" .component) | nindent 2 }}
{{- end }}

{{/* An image: as it is where it names a tag or a digest, else with the registry and the tag of all. */}}
{{- define "inpo.image" -}}
{{- $last := splitList "/" .image | last }}
{{- if or (contains ":" $last) (contains "@" .image) }}{{ .image }}
{{- else }}
{{- with .root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .image }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "inpo.keys" -}}
{{ .Values.keys.existingSecret | default (printf "%s-keys" (include "inpo.name" .)) }}
{{- end }}

{{/* "true" where a claim can be mounted by one node alone, so that all pods have to be there. */}}
{{- define "inpo.oneNode" -}}
{{- $store := and (eq .Values.store.kind "claim") (eq .Values.store.claim.accessMode "ReadWriteOnce") }}
{{- $models := and (not .Values.model.hub.id) (eq .Values.model.claim.accessMode "ReadWriteOnce") }}
{{- if or $store $models }}true{{ end }}
{{- end }}

{{/* What every pod of ours is: restricted, without a token, spread or together, of a priority. */}}
{{- define "inpo.pod" -}}
serviceAccountName: {{ include "inpo.name" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user | default 10001 }}
  runAsGroup: {{ .user | default 10001 }}
  fsGroup: {{ .user | default 10001 }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .values.priorityClassName }}
priorityClassName: {{ .values.priorityClassName }}
{{- else if and .priority .root.Values.priorityClasses.create }}
priorityClassName: {{ include "inpo.priorityClass" . }}
{{- end }}
{{- end }}

{{/* Cluster-wide names, so the namespace is in them. */}}
{{- define "inpo.priorityClass" -}}
{{ .root.Release.Namespace }}-{{ include "inpo.name" .root }}-{{ .priority }}
{{- end }}

{{- define "inpo.spread" -}}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "inpo.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}

{{/* Pods that mount what one node alone can mount go where the first of them went. */}}
{{- define "inpo.together" -}}
{{- if include "inpo.oneNode" .root }}
affinity:
  podAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            app.kubernetes.io/instance: {{ .root.Release.Name }}
            inpo/volumes: shared
{{- end }}
{{- end }}

{{- define "inpo.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}

{{/* Of what computes on GPUs: each of them is requested and limited alike. */}}
{{- define "inpo.resources" -}}
{{- $found := deepCopy .values.resources }}
{{- if .values.gpus }}
{{- range $side := list "requests" "limits" }}
{{- $_ := set $found $side (merge (dict $.root.Values.gpuResource (toString $.values.gpus)) (get $found $side | default dict)) }}
{{- end }}
{{- end }}
{{- toYaml $found }}
{{- end }}

{{/* How long a pod may take to end: endpoints forget it (5 s), the drain, and as much again as a margin needs. */}}
{{- define "inpo.grace" -}}
{{ add .Values.drainSeconds 40 }}
{{- end }}

{{/* A pod that serves goes on serving until nobody sends to it any more. */}}
{{- define "inpo.lastRequests" -}}
lifecycle:
  preStop: { exec: { command: [sleep, "5"] } }
{{- end }}

{{/* Environment: of every service, of those that listen, and the component's own. */}}
{{- define "inpo.env" -}}
- { name: INPO_LOG_LEVEL, value: {{ .root.Values.logLevel | quote }} }
- { name: INPO_DRAIN_S, value: {{ .root.Values.drainSeconds | quote }} }
- { name: INPO_QUEUE_NAMESPACE, value: {{ include "inpo.queue" .root | quote }} }
- { name: INPO_ALLOWED_PATHS, value: {{ toJson .root.Values.allowedPaths | quote }} }
- { name: INPO_ALLOW_HUB, value: {{ or .root.Values.allowHub (ne .root.Values.model.hub.id "") | quote }} }
{{ include "inpo.redisEnv" .root }}
{{ include "inpo.storeEnv" .root }}
{{- with .root.Values.model.tokenSecret }}
- name: HF_TOKEN
  valueFrom: { secretKeyRef: { name: {{ . }}, key: token } }
{{- end }}
{{- range $name, $value := .values.env }}
- { name: {{ $name }}, value: {{ $value | quote }} }
{{- end }}
{{- end }}

{{- define "inpo.listenEnv" -}}
- { name: INPO_HOST, value: 0.0.0.0 }
- { name: INPO_PORT, value: {{ .port | quote }} }
- { name: INPO_API_KEY_FILE, value: /keys/api }
{{- end }}

{{- define "inpo.redisEnv" -}}
{{- if .Values.redis.enabled -}}
- name: REDIS_PASSWORD
  valueFrom: { secretKeyRef: { name: {{ include "inpo.keys" . }}, key: redis } }
- { name: INPO_REDIS_URL, value: "redis://:$(REDIS_PASSWORD)@{{ include "inpo.name" . }}-redis:6379/0" }
{{- else if .Values.redis.existingSecret -}}
- name: INPO_REDIS_URL
  valueFrom: { secretKeyRef: { name: {{ .Values.redis.existingSecret }}, key: url } }
{{- else -}}
- { name: INPO_REDIS_URL, value: {{ .Values.redis.url | quote }} }
{{- end }}
{{- end }}

{{- define "inpo.storeEnv" -}}
- { name: INPO_STORE_DIR, value: /store }
{{- if eq .Values.store.kind "object" }}
{{- with .Values.store.object }}
- { name: INPO_STORE_URL, value: {{ .url | quote }} }
- { name: INPO_STAGING_DIR, value: /staging }
- { name: INPO_MAX_STAGED_BYTES, value: {{ include "inpo.stagingBytes" . | quote }} }
{{- range $name, $value := .env }}
- { name: {{ $name }}, value: {{ $value | quote }} }
{{- end }}
{{- if .credentialsSecret }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom: { secretKeyRef: { name: {{ $.Values.store.object.credentialsSecret }}, key: {{ . }} } }
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Nine tenths of the volume: what is being staged comes before what is evicted has gone. */}}
{{- define "inpo.stagingBytes" -}}
{{- $unit := dict "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- div (mul (regexFind "^[0-9]+" .staging.size | int64) (get $unit (regexFind "[A-Z]i$" .staging.size) | int64) 9) 10 }}
{{- end }}

{{/* Volumes of every service. */}}
{{- define "inpo.volumes" -}}
- { name: tmp, emptyDir: {} }
{{- if eq .root.Values.store.kind "claim" }}
- name: store
  persistentVolumeClaim: { claimName: {{ .root.Values.store.claim.existing | default (printf "%s-store" (include "inpo.name" .root)) }} }
{{- else }}
{{- with .root.Values.store.object.staging }}
- { name: store, emptyDir: { sizeLimit: {{ .size }} } }
- { name: staging, emptyDir: { {{ if eq .medium "memory" }}medium: Memory, {{ end }}sizeLimit: {{ .size }} } }
{{- end }}
{{- end }}
{{- if not .root.Values.model.hub.id }}
- name: models
  persistentVolumeClaim: { claimName: {{ include "inpo.modelsClaim" .root }} }
{{- end }}
{{- end }}

{{- define "inpo.modelsClaim" -}}
{{ .Values.model.claim.existing | default (printf "%s-models" (include "inpo.name" .)) }}
{{- end }}

{{- define "inpo.keyVolume" -}}
- name: {{ .key }}-key
  secret: { secretName: {{ include "inpo.keys" .root }}, defaultMode: 0440, items: [{ key: {{ .key }}, path: {{ .key }} }] }
{{- end }}

{{- define "inpo.hubVolume" -}}
- { name: hub, emptyDir: { sizeLimit: {{ .Values.model.cacheSize }} } }
{{- end }}

{{- define "inpo.mounts" -}}
- { name: tmp, mountPath: /tmp }
- { name: store, mountPath: /store }
{{- if eq .Values.store.kind "object" }}
- { name: staging, mountPath: /staging }
{{- end }}
{{- if not .Values.model.hub.id }}
- { name: models, mountPath: /models, readOnly: true }
{{- end }}
{{- end }}

{{/* The model, where it has to be there before something starts. */}}
{{- define "inpo.modelFirst" -}}
{{- if .root.Values.model.hub.id }}
- name: fetch-model
  image: {{ include "inpo.image" (dict "root" .root "image" .image) }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command:
    - python
    - -c
    - |
      import sys
      from huggingface_hub import snapshot_download
      identity, revision, target = sys.argv[1:]
      snapshot_download(identity, revision=revision, local_dir=target)
    - {{ .root.Values.model.hub.id | quote }}
    - {{ .root.Values.model.hub.revision | quote }}
    - {{ .root.Values.model.path | quote }}
  env:
    - { name: HF_HOME, value: /tmp }
    {{- with .root.Values.model.tokenSecret }}
    - name: HF_TOKEN
      valueFrom: { secretKeyRef: { name: {{ . }}, key: token } }
    {{- end }}
  volumeMounts:
    - { name: tmp, mountPath: /tmp }
    - { name: models, mountPath: /models }
{{- else }}
- name: await-model
  image: {{ include "inpo.image" (dict "root" .root "image" .image) }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: [sh, -c, 'until [ -f "$0/config.json" ]; do sleep 1; done', {{ .root.Values.model.path | quote }}]
  volumeMounts:
    - { name: models, mountPath: /models, readOnly: true }
{{- end }}
  resources: { requests: { cpu: 50m, memory: 256Mi }, limits: { memory: 2Gi } }
  {{- include "inpo.container" . | nindent 2 }}
{{- end }}

{{/* Liveness asks whether the process answers, readiness whether all that it needs works. */}}
{{- define "inpo.probes" -}}
startupProbe:
  httpGet: { path: /healthz, port: http }
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ .startupTries | default 60 }}
livenessProbe:
  httpGet: { path: /healthz, port: http }
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /readyz, port: http }
  periodSeconds: 10
  timeoutSeconds: 5
{{- end }}
