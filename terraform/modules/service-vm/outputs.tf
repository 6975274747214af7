output "user_data" {
  description = "The cloud-config to give to the machine. It holds no secret. EC2 takes up to 16 KiB; see user_data_base64gzip."
  value       = local.user_data
}

output "user_data_base64gzip" {
  description = "The same, compressed, for user data with a limit: `user_data_base64` of aws_instance."
  value       = base64gzip(local.user_data)
}

output "files" {
  description = "What is written to the machine: path to content. For those who set machines up by other means than cloud-init."
  value       = { for path, file in local.files : path => file.content }
}

output "url" {
  description = "What clients type, with https://."
  value       = "https://${var.domain}"
}

output "ports" {
  description = "TCP ports that a firewall before the machine has to let in: 80 for the certificate, 443 for clients."
  value       = [80, 443]
}
